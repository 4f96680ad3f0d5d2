"""The orders program against crashes and partitions, on a simulated cluster, in milliseconds.

Only the cluster that is handed in is simulated: the program under test is the
one that runs in production, with another client.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

from examples.orders.orders import Order, Record, Totals, TryAgainError, take
from ourolog.simulation import Client, Cluster, OutcomeUnknownError, RefusedError

ORDERS = 12


class SimulatedLog:
    """The program's Log on a simulated client. Waiting lets virtual time pass."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def produce(self, value: bytes) -> int:
        try:
            return self._client.produce(value)
        except (RefusedError, OutcomeUnknownError) as error:
            raise TryAgainError(str(error)) from error

    def records(self, offset: int) -> Iterable[Record]:
        try:
            yield from self._client.records(offset)
        except RefusedError as error:
            raise TryAgainError(str(error)) from error


def break_something(cluster: Cluster, chance: Random) -> None:
    """Break something, and mend it some seconds later, while the shop is running."""
    mend_after_s = chance.uniform(0.5, 8.0)
    match chance.randrange(5):
        case 0:
            node = chance.choice(["n1", "n2", "n3"])
            cluster.crash(node, power=chance.random() < 0.5)
            cluster.after(
                mend_after_s, lambda: cluster.restart(node, wait=False) if node not in cluster.running else None
            )
        case 1:
            cluster.isolate(chance.choice(["n1", "n2", "n3"]))
            cluster.after(mend_after_s, cluster.heal)
        case 2:
            cluster.cut(*chance.sample(["n1", "n2", "n3"], 2))
            cluster.after(mend_after_s, cluster.heal)
        case 3:
            # Just after the order was sent, so that its answer is lost.
            cluster.after(0.003, lambda: cluster.crash("n1"))
            cluster.after(
                mend_after_s, lambda: cluster.restart("n1", wait=False) if "n1" not in cluster.running else None
            )
        case _:
            cluster.run_for(chance.random())


def mend_everything(cluster: Cluster) -> None:
    cluster.run_for(10.0)
    cluster.heal()
    cluster.start()
    cluster.run_for(30.0)


def run_a_day(cluster: Cluster, seed: int) -> tuple[int, Totals, int]:
    """(cents that were ordered, what was added up, how many orders are in the log twice)."""
    chance = Random(seed)  # noqa: S311  # chance of a test, not a secret
    shop, books = SimulatedLog(cluster.client("shop")), SimulatedLog(cluster.client("books"))
    saved = Totals().to_json()
    ordered = 0
    for number in range(ORDERS):
        break_something(cluster, chance)
        order = Order(f"order-{number}", chance.randrange(1, 100_000))
        take(order, shop)
        ordered += order.cents
        totals = Totals.from_json(saved)  # the bookkeeper's process is a new one every time
        try:
            totals.catch_up(books)
        except TryAgainError:
            continue  # it died before it could save
        saved = totals.to_json()
    mend_everything(cluster)
    totals = Totals.from_json(saved)
    totals.catch_up(books)
    twice = len(list(books.records(0))) - ORDERS
    return ordered, totals, twice


@pytest.mark.seeds(8)
@pytest.mark.cluster(nodes=3, election="static")
def test_every_order_is_counted_once_whatever_breaks(cluster: Cluster, simulation_seed: int) -> None:
    ordered, totals, twice = run_a_day(cluster, simulation_seed)
    assert totals.cents == ordered
    assert totals.next_offset == ORDERS + twice
    assert len(totals.counted) == ORDERS


def test_some_orders_stand_in_the_log_twice_so_counting_records_would_be_wrong() -> None:
    for seed in range(40):
        with Cluster(seed, nodes=3, election="static") as cluster:
            if run_a_day(cluster, seed)[2]:
                return
    pytest.fail("no seed of 40 made the shop repeat an order that had been appended")
