"""``signalbus-relay completion``: what a shell has to run so that it completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ...text import say_data

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="Example: echo 'eval \"$(signalbus-relay completion bash)\"' >> ~/.bashrc\n\n"
    "zsh: the same in ~/.zshrc, after compinit. "
    "fish: signalbus-relay completion fish > ~/.config/fish/completions/signalbus-relay.fish"
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes the commands and options of signalbus-relay. bash is 4.4 or newer."""
    root = context.find_root()
    name = "signalbus-relay"
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    script = completion_class(root.command, {}, name, f"_{name.replace('-', '_').upper()}_COMPLETE")
    # Not source(), which for bash starts a bash of this machine to ask for its version.
    say_data(script.source_template % script.source_vars())
