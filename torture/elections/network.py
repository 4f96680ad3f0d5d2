"""A network of this run's own: a namespace for each node, joined by a bridge; needs root and iproute2.

Packets are dropped without a word and in one direction at a time: the sender's neighbour entry for the
receiver is given an address that nobody has. Unlike a route that is gone, this is no error to the sender,
as it is none where a switch fails. The bridge stands in a namespace, too, so when the namespaces are
removed, everything is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final

CLIENTS: Final = "clients"
"""Where this process and its clients are, beside the nodes."""

_PREFIX: Final = "ourolog"
_HUB: Final = "hub"
_NOBODY: Final = "02:00:00:00:00:00"
# Of 198.18.0.0/15, which is set aside for such tests (RFC 2544), each run takes 256 addresses.
_SUBNETS: Final = 512
_CLIENTS_HOST: Final = 254


class NoNetworkError(Exception):
    """This machine or this user cannot make network namespaces; why."""


class Network:
    """Hosts that reach each other, until a direction between two of them is cut. A context; closing removes all.

    nodes: the names of the hosts beside CLIENTS.
    Raises NoNetworkError where it cannot be made.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._hosts = (*nodes, CLIENTS)
        self._cuts: frozenset[tuple[str, str]] = frozenset()
        missing = [name for name in ("ip", "nsenter") if shutil.which(name) is None]
        if missing:
            raise NoNetworkError(f"there is no {missing[0]} here")
        if os.geteuid() != 0:
            raise NoNetworkError("network namespaces need root")
        _remove_leftovers()
        self._tag = f"{_PREFIX}-{os.getpid()}"
        self._device = f"our{os.getpid()}"
        self._subnet = _free_subnet()
        try:
            self._make()
        except NoNetworkError:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def address(self, host: str) -> str:
        """The IP address of a host."""
        number = _CLIENTS_HOST if host == CLIENTS else self._hosts.index(host) + 1
        return f"{self._subnet}.{number}"

    def command(self, host: str) -> list[str]:
        """What to put before a command line so that it runs on that host, in the same process."""
        return ["nsenter", f"--net=/run/netns/{self._namespace(host)}"]

    @property
    def hosts(self) -> tuple[str, ...]:
        return self._hosts

    @property
    def cuts(self) -> frozenset[tuple[str, str]]:
        """The directions, as (sender, receiver), in which nothing passes now."""
        return self._cuts

    def cut(self, directions: Iterable[tuple[str, str]]) -> None:
        """Let nothing pass in exactly these directions from now on; all others are healed."""
        wanted = frozenset(directions)
        changed = wanted ^ self._cuts
        self._cuts = wanted
        by_sender: dict[str, list[str]] = {}
        for sender, receiver in sorted(changed):
            there = _NOBODY if (sender, receiver) in wanted else self._mac(receiver)
            by_sender.setdefault(sender, []).append(self._neighbour(sender, receiver, there))
        for sender, lines in by_sender.items():
            self._on(sender, lines)

    def heal(self) -> None:
        """Let everything pass again."""
        self.cut(())

    def close(self) -> None:
        """Remove the namespaces and with them everything in them. Processes that still run there keep running."""
        for host in (*self._hosts, _HUB):
            if host != CLIENTS:
                subprocess.run(["ip", "netns", "del", self._namespace(host)], capture_output=True, check=False)

    # ------------------------------------------------------------ with ip(8)

    def _make(self) -> None:
        inside = [host for host in self._hosts if host != CLIENTS]
        _ip([f"netns add {self._namespace(host)}" for host in (_HUB, *inside)])
        hub = self._namespace(_HUB)
        _ip(["link add name bridge type bridge", "link set bridge up"], hub)
        for number, host in enumerate(self._hosts):
            port = f"port{number}"
            if host == CLIENTS:
                _ip([f"link add {self._device} type veth peer name {port} netns {hub}"])
            else:
                _ip([f"link add {self._device} netns {self._namespace(host)} type veth peer name {port} netns {hub}"])
            _ip([f"link set {port} master bridge", f"link set {port} up"], hub)
            lines = [
                f"link set {self._device} address {self._mac(host)}",
                f"addr add {self.address(host)}/24 dev {self._device}",
                f"link set {self._device} up",
            ]
            if host != CLIENTS:
                lines.append("link set lo up")
            lines += [self._neighbour(host, other, self._mac(other)) for other in self._hosts if other != host]
            self._on(host, lines)

    def _neighbour(self, sender: str, receiver: str, mac: str) -> str:
        assert sender in self._hosts, f"there is no host {sender}"
        return f"neigh replace {self.address(receiver)} lladdr {mac} dev {self._device} nud permanent"

    def _mac(self, host: str) -> str:
        return "02:00:00:00:01:{:02x}".format(int(self.address(host).rpartition(".")[2]))

    def _namespace(self, host: str) -> str:
        return f"{self._tag}-{host}"

    def _on(self, host: str, lines: Sequence[str]) -> None:
        _ip(lines, None if host == CLIENTS else self._namespace(host))


def isolate(host: str, others: Iterable[str]) -> set[tuple[str, str]]:
    """The directions between a host and the others, both ways."""
    return {pair for other in others if other != host for pair in ((host, other), (other, host))}


def split(one: Iterable[str], other: Iterable[str]) -> set[tuple[str, str]]:
    """The directions between two groups, both ways."""
    group = tuple(other)
    return {pair for host in one for pair in isolate(host, group)}


def describe(cuts: Iterable[tuple[str, str]]) -> str:
    """The cuts for a person: n1-n2 both ways, n1>n2 one way."""
    pairs = set(cuts)
    words = []
    for sender, receiver in sorted(pairs):
        if (receiver, sender) not in pairs:
            words.append(f"{sender}>{receiver}")
        elif sender < receiver:
            words.append(f"{sender}-{receiver}")
    return " ".join(words)


def _ip(lines: Sequence[str], namespace: str | None = None) -> None:
    words = ["ip", *(["-n", namespace] if namespace is not None else []), "-batch", "-"]
    done = subprocess.run(words, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNetworkError(f"ip(8) refused {'; '.join(lines)}: {done.stderr.strip()}")


def _free_subnet() -> str:
    taken = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=False).stdout
    for step in range(_SUBNETS):
        high, low = divmod((os.getpid() + step) % _SUBNETS, 256)
        subnet = f"198.{18 + high}.{low}"
        if f" {subnet}." not in taken:
            return subnet
    raise NoNetworkError("every network of 198.18.0.0/15 is taken")


def _remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed before they could."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        name, _, _ = line.partition(" ")
        prefix, _, rest = name.partition("-")
        pid, _, _ = rest.partition("-")
        if prefix == _PREFIX and pid.isdigit() and not _runs(int(pid)):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def addresses(network: Network | None, nodes: Sequence[str], port: int) -> Mapping[str, str]:
    """HOST:PORT by node, each on a host of its own; any port of loopback where there is no network."""
    if network is None:
        return dict.fromkeys(nodes, "127.0.0.1:0")
    return {node: f"{network.address(node)}:{port}" for node in nodes}
