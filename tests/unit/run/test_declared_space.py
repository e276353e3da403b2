"""The search space of trials that ask for their params while they run."""

import threading

from hpo.core.space import Float, Int
from hpo.run.declared_space import DeclaredSpace


def test_parameters_are_collected_by_name() -> None:
    declared = DeclaredSpace()
    assert list(declared.space) == []
    declared.add(Float("x", low=0.0, high=1.0))
    declared.add(Int("y", low=1, high=9))
    assert declared.space.to_config() == {
        "x": {"type": "float", "low": 0.0, "high": 1.0},
        "y": {"type": "int", "low": 1, "high": 9},
    }


def test_two_domains_of_a_parameter_are_united() -> None:
    declared = DeclaredSpace()
    for low, high in ((0.0, 1.0), (0.5, 2.0), (0.5, 1.0)):
        declared.add(Float("x", low=low, high=high))
    (parameter,) = declared.space.values()
    assert isinstance(parameter, Float)
    assert (parameter.low, parameter.high) == (0.0, 2.0)


def test_parameters_of_all_threads_are_collected() -> None:
    declared, barrier = DeclaredSpace(), threading.Barrier(4)

    def add(thread: int) -> None:
        barrier.wait(30)
        for index in range(50):
            declared.add(Float("shared", low=0.0, high=1.0 + thread))
            declared.add(Float(f"p{thread}_{index}", low=0.0, high=1.0))

    threads = [threading.Thread(target=add, args=(each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(declared.space) == 201
    shared = declared.space["shared"]
    assert isinstance(shared, Float)
    assert shared.high == 4.0
