"""Threads wait asleep, unless the user chose otherwise."""

from __future__ import annotations

import pytest

from utils.openmp import VARIABLES, let_threads_sleep


def test_threads_sleep_where_nothing_is_set():
    environment = {"OMP_NUM_THREADS": "2"}
    let_threads_sleep(environment)
    assert environment == {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", ["", "ACTIVE"])
def test_a_users_choice_stays(name, value):
    environment = {name: value}
    let_threads_sleep(environment)
    assert environment == {name: value}
