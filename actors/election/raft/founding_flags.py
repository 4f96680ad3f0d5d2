"""With whom a fresh node was started to found a cluster, as its flags say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ourolog.actors.config import NodeConfig
from ourolog.storage.founding import Founding
from ourolog.storage.types import NodeId


@dataclass(frozen=True, slots=True)
class FoundingFlags:
    """How a node with an empty data directory was told to begin. On any other directory these flags mean nothing.

    node_id: the node.
    count: how many found the cluster together; 1 for a cluster of one, 0 for a node that joins.
    names: the founders where the election names them, sorted; () where gossip finds them.
    text: the flag, for a person.
    voter_count: how many of the founders vote; the others stand by.
    """

    node_id: NodeId
    count: int
    names: tuple[NodeId, ...]
    text: str
    voter_count: int

    @classmethod
    def of(cls, config: NodeConfig) -> FoundingFlags:
        named = tuple(sorted(config.election.voters))
        if named:
            count = len(named) if config.node_id in named else 0
            return cls(config.node_id, count, named if count else (), f"--election {config.election}", count)
        if config.bootstrap_expect is not None:
            count, replicas = config.bootstrap_expect, config.replicas
            text = f"--bootstrap-expect {count}" + (f" --replicas {replicas}" if replicas < count else "")
            return cls(config.node_id, count, (), text, min(count, replicas))
        count = 0 if config.join else 1
        return cls(config.node_id, count, (), "--join" if config.join else "no --join", count)

    def may_found(self, node_id: NodeId) -> bool:
        """Whether that node can be one of the founders."""
        return node_id in self.names if self.names else self.count > 1

    def choice(self, fresh: Iterable[NodeId]) -> tuple[NodeId, ...]:
        """Who is to found the cluster, sorted; () while too few are known.

        fresh: the other nodes that could.
        """
        if self.names:
            return self.names
        found = sorted({self.node_id, *fresh})
        chosen = tuple(found[: self.count])
        return chosen if len(chosen) == self.count and self.node_id in chosen else ()

    def why_not(self, names: tuple[NodeId, ...]) -> str:
        """Why these founders cannot be those that the flags speak of, as a half sentence; "" if they can."""
        is_other = names != self.names if self.names else len(names) != self.count
        return f"{self.node_id} was started with {self.text}" if is_other else ""

    def why_not_promise(self, founding: Founding) -> str:
        """Why this node may not make that promise, as a half sentence; "" if it may."""
        names = names_of(founding)
        is_other = names != self.names if self.names else len(names) != self.voter_count
        return f"{self.node_id} was started with {self.text}" if is_other else ""


def names_of(founding: Founding) -> tuple[NodeId, ...]:
    """Who founds the cluster, sorted."""
    return tuple(sorted(voter.node_id for voter in founding.voters))


def listed(names: Iterable[NodeId]) -> str:
    """The names in a sentence: `n1, n2 and n3`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
