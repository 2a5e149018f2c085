"""A private RabbitMQ: own node, own ports, own Erlang port mapper, loopback only, gone when its owner is gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from .guardian import guardian, stop_epmd
from .programs import INSTALL_HINT, ServersMissingError, find_program, free_port, give_to, run_as
from .waiting import eventually

PLACES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin")


class PrivateRabbitMQ:
    """A RabbitMQ node started from the programs of this machine. The node takes about 7 seconds to start.

    :param tls: a directory with ``ca.pem``, ``cert.pem`` and ``key.pem`` for a listener with TLS.
    :param settings: further lines of its configuration file.
    """

    def __init__(self, *, tls: Path | None = None, settings: Sequence[str] = ()) -> None:
        server = find_program("rabbitmq-server", *PLACES)
        if server is None:
            raise ServersMissingError(f"RabbitMQ is not installed. {INSTALL_HINT}")
        self._server = server
        self.directory = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-mq-", dir="/tmp"))
        guardian.watch("directory", str(self.directory))
        self.port, self._distribution_port, self.epmd_port = free_port(), free_port(), free_port()
        self.tls_port = free_port() if tls is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        (self.directory / "enabled_plugins").write_text("[].\n")
        (self.directory / "rabbitmq.conf").write_text("\n".join([*self._configuration(tls), *settings, ""]))
        give_to("rabbitmq", self.directory)
        self._environ = self._make_environ()

    def __enter__(self) -> PrivateRabbitMQ:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The first process of the server; the others are below it."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return self.vhost_url("%2F")

    def vhost_url(self, vhost: str, user: str = "guest", password: str = "guest") -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    def add_vhost(self) -> str:
        """Create an empty virtual host and return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        # One command instead of two: each costs about a second.
        self.eval(
            f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, '
            '<<"tests">>).'
        )
        return self.vhost_url(name)

    def delete_vhost(self, url: str) -> None:
        self.eval(f'rabbit_vhost:delete(<<"{url.rsplit("/", 1)[1]}">>, <<"tests">>).')

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on the node; return what it printed."""
        done = subprocess.run(
            [self._server.with_name("rabbitmqctl"), "-q", *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            cwd=self.directory,
            check=False,
            **run_as("rabbitmq"),
        )
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def eval(self, expression: str) -> str:
        return self.ctl("eval", expression)

    def start(self) -> PrivateRabbitMQ:
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._server],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
                **run_as("rabbitmq"),
            )
        guardian.watch("group", self._process.pid)
        guardian.watch("epmd", self.epmd_port)
        eventually(self._answers, 90, "RabbitMQ answers", every_seconds=0.1)
        return self

    def stop(self) -> None:
        """Stop as an administrator would."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """Stop as a power failure would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_group(signal.SIGCONT)

    def block_publishers(self) -> None:
        """Raise a memory alarm: the broker stops reading from connections that publish."""
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.000001).")

    def unblock_publishers(self) -> None:
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.4).")

    def close(self) -> None:
        if self._process is not None:
            self.resume()
            # Nothing of a private node needs to be kept, and an orderly stop takes seconds.
            self.kill9()
        stop_epmd(self.epmd_port)
        guardian.release("epmd", self.epmd_port)
        shutil.rmtree(self.directory, ignore_errors=True)
        guardian.release("directory", str(self.directory))

    def log_tail(self) -> str:
        return (self.directory / "output").read_text(errors="replace")[-3000:]

    def _configuration(self, tls: Path | None) -> list[str]:
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            "loopback_users.guest = true",
            "disk_free_limit.absolute = 50MB",
            "log.console = true",
            "log.console.level = warning",
            "log.file = false",
        ]
        if tls is not None:
            shutil.copytree(tls, self.directory / "tls")
            lines += [
                f"listeners.ssl.default = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self.directory}/tls/ca.pem",
                f"ssl_options.certfile = {self.directory}/tls/cert.pem",
                f"ssl_options.keyfile = {self.directory}/tls/key.pem",
                "ssl_options.verify = verify_none",
            ]
        return lines

    def _make_environ(self) -> dict[str, str]:
        home = str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": home,
            "RABBITMQ_NODENAME": f"signalbus{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/generated",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Without the last option the schedulers burn processor time while they wait.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        }

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"RabbitMQ ended:\n{self.log_tail()}")
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout, parameters.stack_timeout = 5, 8
        try:
            pika.BlockingConnection(parameters).close()
        except (AMQPError, OSError):
            return False
        return True

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(60)
        guardian.release("group", process.pid)

    def _signal_group(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
