"""Shared by all tests."""

import pytest
import torch

torch.set_num_threads(1)
# Minutes each.
LONGEST = ("tests/docs/test_docs.py", "tests/workflow/test_workflow.py", "tests/search/gpu/test_evolve.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
