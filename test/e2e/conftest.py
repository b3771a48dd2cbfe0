"""Fixtures. One server and one mount a test unless it makes more itself."""

import shutil
import tempfile

import pytest

import harness

TEST_LIMIT = 150 * harness.SLOW


def pytest_configure(config):
    for program in (harness.R2FS, harness.R2SIM):
        if not program.exists():
            pytest.exit("%s is missing: build first, or set R2FS_BUILD"
                        % program, 2)
    harness.raise_file_limit()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "result_" + call.when, outcome.get_result())


@pytest.fixture
def bench(request):
    folder = tempfile.mkdtemp(prefix="r2fs-e2e-")
    watchdog = harness.Watchdog()
    watchdog.arm(TEST_LIMIT)
    bench = harness.Bench(folder, watchdog)
    try:
        yield bench
        bench.end()
    except AssertionError:
        for mount in bench.mounts:
            harness.detach(mount.path)
        raise
    finally:
        watchdog.disarm()
        failed = getattr(request.node, "result_call", None)
        if failed is not None and failed.failed:
            show_logs(bench)
        shutil.rmtree(folder, ignore_errors=True)


def show_logs(bench):
    for mount in bench.mounts:
        if mount.log.exists():
            text = mount.log.read_text(errors="replace")
            print("---- %s\n%s" % (mount.log.name, text[-6000:]))


@pytest.fixture
def sim(bench):
    return bench.sim()


@pytest.fixture
def mounted(bench, sim):
    return bench.mount(sim)
