"""What the tests of framed connections share: certificates."""

from __future__ import annotations

import pytest

from tests.rpc.peer.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    try:
        return Certificates(tmp_path_factory.mktemp("certificates"))
    except FileNotFoundError:
        pytest.skip("there is no openssl here")
