"""A datagram network in virtual time, for tests of actors: delays, loses, cuts, all from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.membership import DatagramReceived
from ourolog.actors.ports import Timers


class Sent(NamedTuple):
    """One datagram as it was handed to the network, whether or not it arrived."""

    source_addr: str
    to_addr: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A datagram that is on its way to an address."""

    source_addr: str
    to_addr: str
    payload: bytes


class VirtualDatagramNet:
    """loss: the share of datagrams that are lost. delay_s: low and high bound of the way's time.

    `cut` severs the way between two addresses in one direction, `split` cuts both ways between
    groups. `watch` sees every datagram that is sent, `drops` says which of them are lost on purpose.
    """

    def __init__(
        self,
        timers: Timers,
        seed: int = 1,
        *,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.001, 0.005),
        watch: Callable[[Sent], None] | None = None,
        drops: Callable[[Sent], bool] | None = None,
    ) -> None:
        self.loss = loss
        self.drops = drops
        self.delay_s = delay_s
        self.watch = watch
        self._timers = timers
        self._rng = Random(seed)  # noqa: S311  # chance of a test, not a secret
        self._attached: dict[str, Mailbox[DatagramReceived]] = {}
        self._cuts: set[tuple[str, str]] = set()

    def port(self, addr: str) -> VirtualDatagrams:
        """The Datagrams port of the node at that address."""
        return VirtualDatagrams(self, addr)

    def attach(self, addr: str, mailbox: Mailbox[DatagramReceived]) -> None:
        """From now on what is sent to the address arrives there."""
        self._attached[addr] = mailbox

    def detach(self, addr: str) -> None:
        """Nobody listens there any more."""
        self._attached.pop(addr, None)

    def cut(self, source_addr: str, to_addr: str) -> None:
        self._cuts.add((source_addr, to_addr))

    def split(self, one: Iterable[str], other: Iterable[str]) -> None:
        """No datagram passes between the groups."""
        others = list(other)
        for a in one:
            for b in others:
                self.cut(a, b)
                self.cut(b, a)

    def heal(self) -> None:
        """Undo every cut."""
        self._cuts.clear()

    def send(self, source_addr: str, to_addr: str, payload: bytes) -> None:
        sent = Sent(source_addr, to_addr, payload)
        if self.watch is not None:
            self.watch(sent)
        # Chance is drawn for what is lost too, so that a cut does not change all that follows.
        delay_s, lost = self._rng.uniform(*self.delay_s), self._rng.random() < self.loss
        if lost or (source_addr, to_addr) in self._cuts or (self.drops is not None and self.drops(sent)):
            return
        self._timers.after(delay_s, self, _Arrival(source_addr, to_addr, payload))

    def tell(self, arrival: _Arrival) -> None:
        """Timer -> net: the datagram is there, if anybody is."""
        mailbox = self._attached.get(arrival.to_addr)
        if mailbox is not None:
            mailbox.tell(DatagramReceived(arrival.source_addr, arrival.payload))


class VirtualDatagrams:
    """One node's way into the network."""

    def __init__(self, net: VirtualDatagramNet, addr: str) -> None:
        self._net = net
        self._addr = addr

    def send(self, addr: str, payload: bytes) -> None:
        self._net.send(self._addr, addr, payload)
