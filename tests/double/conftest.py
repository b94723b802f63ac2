"""What all tests of the device double need."""

import pytest

import sideways as sw


@pytest.fixture(scope="session", autouse=True)
def the_double(request):
    """Refuse to run without the double."""
    if request.config.getoption("--backend") != "double":
        pytest.fail("these tests need the double: pytest --backend double")


@pytest.fixture(autouse=True)
def back_to_the_double():
    """Go back to the double after a test that has chosen another backend."""
    yield
    sw.use_backend("cupy")
