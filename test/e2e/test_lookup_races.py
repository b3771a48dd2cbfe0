"""Many processes ask for the names of one folder at the same moment."""

import os
import threading
import unittest

from harness import Case


class Races(Case):
    FOLDERS, CHILDREN = 60, 12

    def look(self, path, barrier, missing):
        barrier.wait()
        try:
            os.stat(path)
        except OSError as e:
            missing.append((path, e.errno))

    def test_folders_that_nobody_has_listed(self):
        for f in range(self.FOLDERS):
            for c in range(self.CHILDREN):
                self.server.put(f"d{f:02}/c{c}/x", b"1")
        m = self.mount()
        self.server.latency(5)
        missing, requests = [], []
        for f in range(self.FOLDERS):
            os.stat(f"{m.path}/d{f:02}")
            self.server.reset()
            barrier = threading.Barrier(self.CHILDREN)
            threads = [threading.Thread(target=self.look, args=(
                f"{m.path}/d{f:02}/c{c}", barrier, missing))
                for c in range(self.CHILDREN)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            requests.append(self.server.stats()["ops"]["LIST"])
            self.assertEqual(sorted(os.listdir(f"{m.path}/d{f:02}")),
                             sorted(f"c{c}" for c in range(self.CHILDREN)))
        self.assertEqual(missing, [])
        self.assertLessEqual(max(requests), 1, requests)


if __name__ == "__main__":
    unittest.main()
