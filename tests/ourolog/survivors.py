"""Data directories of nodes that do not run, for tests of what a person does with them."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.control import Voter, VotersSet, encode_control
from ourolog.storage.disk import DiskFiles
from ourolog.storage.founding import Founding
from ourolog.storage.identity import DataDirectory
from ourolog.storage.log import Log
from ourolog.storage.types import NodeId, Term

CLUSTER_ID: Final = 77
OTHER_EPOCHS: Final = {"n2": 22, "n3": 33}


def survivor_in(path: Path, *, votes: bool = True) -> Path:
    """The disk of n1, the one of three voters that is left: 4 records in term 3, the last not known to be committed.

    votes: else it stood by, and n4 voted in its place.
    """
    files = DiskFiles()
    directory = DataDirectory.open(files, str(path), NodeId("n1"), "ourolog", Random(1))
    epochs = {"n1" if votes else "n4": directory.log_epoch if votes else 44, **OTHER_EPOCHS}
    # Nobody listens at these addresses.
    voters = tuple(
        Voter(NodeId(name), epoch, f"127.0.0.1:{port}", f"127.0.0.1:{port}")
        for port, (name, epoch) in enumerate(epochs.items(), 1)
    )
    directory.save_founding(Founding(CLUSTER_ID, voters))
    directory.save_ballot(Ballot(Term(3)))
    log = Log.open(files, directory.log_directory, NodeId("n1"), directory.log_epoch)
    log.append_new(NewBatch(encode_control(VotersSet(voters)), 0, kind=Kind.CONTROL), Term(3), 1)
    for number in range(4):
        if number == 3:
            log.sync()
            log.note_committed(log.end)
        log.append_new(NewBatch(b"x", 1), Term(3), 2)
    log.sync()
    log.close()
    directory.close()
    return path
