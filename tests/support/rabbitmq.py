"""A private RabbitMQ: own node and own Erlang port mapper beside it."""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from .guardian import guardian, stop_epmd
from .private_process import PrivateProcess, required
from .programs import chosen_programs, free_port
from .rabbitmq_home import server_without_plugins
from .waiting import eventually

PLACES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin")

#: Without the last option the schedulers burn processor time while they wait.
ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none"

ERLANG_PLACES = (
    "/usr/lib/erlang/bin",
    "/opt/homebrew/opt/erlang*/lib/erlang/erts-*/bin",
    "/usr/local/opt/erlang*/lib/erlang/erts-*/bin",
)


class PrivateRabbitMQ(PrivateProcess):
    """A RabbitMQ node. It takes about 7 seconds to start.

    Pickled, it is the same node for another process, which may use it, but neither break nor end it.

    :param tls: a directory with ``ca.pem``, ``cert.pem`` and ``key.pem`` for a listener with TLS.
    :param settings: further lines of its configuration file.
    """

    name = "RabbitMQ"
    account = "rabbitmq"
    starting_seconds = 90.0

    def __init__(self, *, tls: Path | None = None, settings: Sequence[str] = ()) -> None:
        machine = chosen_programs()
        installed = required("rabbitmq-server", self.name, *PLACES, programs=machine)
        self._server = server_without_plugins(machine, installed)
        self._erl_call = required("erl_call", self.name, *ERLANG_PLACES, programs=machine)
        super().__init__(machine)
        self.port, self.distribution_port, self.epmd_port = free_port(), free_port(), free_port()
        self.node = f"signalbus{self.port}@localhost"
        #: Further arguments of its Erlang machine.
        self.erlang: tuple[str, ...] = ()
        self.tls_port = free_port() if tls is not None else None
        (self.directory / "enabled_plugins").write_text("[].\n")
        (self.directory / "rabbitmq.conf").write_text("\n".join([*self._configuration(tls), *settings, ""]))
        self._give_directory()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_process": None}

    @property
    def url(self) -> str:
        return self.vhost_url("%2F")

    def vhost_url(self, vhost: str, user: str = "guest", password: str = "guest") -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}"

    def add_vhost(self) -> str:
        """The URL of an empty virtual host."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.eval(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), {_everything_to_guest(name)}.')
        return self.vhost_url(name)

    def eval(self, expressions: str) -> str:
        """Evaluate Erlang expressions on the node, as ``rabbitmqctl eval`` does; return the value of the last one.

        No virtual machine is started for it, and so it takes a hundredth of the time.
        """
        printed = self._call(f"{expressions}\n")
        if not (printed.startswith("{ok, ") and printed.endswith("}")):
            raise RuntimeError(f"{expressions} failed:\n{printed}")
        return printed.removeprefix("{ok, ").removesuffix("}")

    def _call(self, text: str) -> str:
        def call() -> str:
            try:
                return self._run(self._erl_call, "-sname", self.node, "-e", text=text)
            except RuntimeError as error:
                # A node that is busy may refuse the connection, and nothing has been done then.
                if "failed to connect to node" in str(error):
                    return ""
                raise

        return eventually(call, 20, f"{self.node} can be connected to", 0.5)

    def _command(self) -> Sequence[object]:
        guardian.watch("epmd", self.epmd_port)
        return [self._server]

    def block_publishers(self) -> None:
        """Raise a memory alarm: the broker stops reading from connections that publish."""
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.000001).")

    def unblock_publishers(self) -> None:
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.4).")

    def close(self) -> None:
        super().close()
        stop_epmd(self.epmd_port)
        guardian.release("epmd", self.epmd_port)

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

    def _environ(self) -> dict[str, str]:
        home = str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": home,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
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
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join([ERLANG, *self.erlang]),
        }

    def _answers(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        parameters = pika.URLParameters(self.url)
        parameters.socket_timeout, parameters.stack_timeout = 5, 8
        try:
            pika.BlockingConnection(parameters).close()
        except (AMQPError, OSError):
            return False
        return True


def _everything_to_guest(vhost: str) -> str:
    return (
        f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{vhost}">>, <<".*">>, <<".*">>, <<".*">>, '
        '<<"tests">>)'
    )
