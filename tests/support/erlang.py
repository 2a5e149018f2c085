"""Evaluates Erlang expressions on RabbitMQ nodes. It is what ``rabbitmqctl eval`` does, without a start for each."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from .guardian import guardian
from .programs import Machine

#: A node that stands still does not answer; then it is an error after so many seconds.
ANSWER_SECONDS = 60

#: Reads lines of a node and its expressions, and answers each with a line.
LOOP = f"""
    Loop = fun Next() ->
        case io:get_line("") of
            eof -> halt(0);
            Line ->
                [Node, Text] = string:split(string:trim(Line), " "),
                {{ok, Tokens, _}} = erl_scan:string(Text),
                {{ok, Expressions}} = erl_parse:parse_exprs(Tokens),
                case rpc:call(list_to_atom(Node), erl_eval, exprs, [Expressions, []], {ANSWER_SECONDS * 1000}) of
                    {{value, Value, _}} -> io:format("ok ~0tp~n", [Value]);
                    Failed -> io:format("failed ~0tp~n", [Failed])
                end,
                Next()
        end
    end,
    Loop().
"""


class Evaluator:
    """A hidden Erlang node that is connected with those that it asks. It takes half a second to start, once.

    :param environ: that of a node, by which it finds the port mapper and the cookie.
    :param erlang: further arguments of its Erlang machine. Its ticks must be those of the nodes.
    """

    def __init__(
        self, machine: Machine, account: str, environ: Mapping[str, str], directory: Path, erlang: Sequence[str] = ()
    ) -> None:
        command = (
            *("erl", "-sname", f"eval{os.getpid()}x{id(self)}@localhost", "-hidden", "-noshell", "+S", "1:1"),
            *("-boot", "start_clean", "-kernel", "inet_dist_use_interface", "{127,0,0,1}", *erlang, "-eval", LOOP),
        )
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            machine.command(account, command),
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            start_new_session=True,
            **machine.run_as(account),
        )
        guardian.watch("group", self._process.pid)

    def eval(self, node: str, expression: str) -> str:
        """What comes out, on one line.

        :raises RuntimeError: the node does not answer, or the expression fails.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{node} {' '.join(expression.split())}\n")
                self._process.stdin.flush()
            said = ""
            # Beside its answers it prints what its logger tells of nodes that are gone.
            for line in self._process.stdout:
                verdict, _, value = line.rstrip("\n").partition(" ")
                if verdict == "ok":
                    return value
                said += line
                if verdict == "failed":
                    break
        raise RuntimeError(f"{expression} on {node} failed:\n{said}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        guardian.release("group", self._process.pid)
