"""`kubectl` and `fission` from the PATH: each command is shown, and a failure is told in one sentence."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from ai_admin.deploy.rendering import DeployError

_HOMES = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "fission": "https://fission.io/docs/installation/#install-fission-cli",
}


class CommandFailed(DeployError):
    """A command ended with another exit code than 0; `said` is what it wrote to standard error."""

    def __init__(self, command: tuple[str, ...], said: str) -> None:
        """`command` names no secret: none is ever an argument."""
        self.said = said.strip()
        super().__init__(f"`{shlex.join(command)}` failed: {last_line(said)}")


def last_line(said: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


@dataclass(frozen=True)
class Tools:
    """Runs commands. In a dry run, those that would change the cluster are shown and not run."""

    show: Callable[[str], None]
    is_dry_run: bool = False

    def require(self) -> None:
        """Raise `DeployError` for a tool that is not on the PATH."""
        for name, home in _HOMES.items():
            if shutil.which(name) is None:
                raise DeployError(f"{name} is not on the PATH; install it: {home}")

    def read(self, *command: str) -> str:
        """Return what a command prints that changes nothing. Raises `CommandFailed`."""
        self.show(f"+ {shlex.join(command)}")
        return self.quietly(*command)

    def quietly(self, *command: str) -> str:
        """Do the same without showing the command, for one that is repeated."""
        # A program of the PATH by its fixed name; arguments are no shell's.
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
        if ran.returncode:
            raise CommandFailed(command, ran.stderr or ran.stdout)
        return ran.stdout

    def change(self, *command: str) -> None:
        """Run a command that changes the cluster, and show what it prints. Raises `CommandFailed`."""
        self.show(f"+ {shlex.join(command)}")
        if self.is_dry_run:
            return
        said = ""
        with subprocess.Popen(  # noqa: S603  as above
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process:
            for line in process.stdout or ():
                said += line
                self.show(f"  {line.rstrip()}")
        if process.returncode:
            raise CommandFailed(command, said)
