"""A GET that hangs is asked for once more; a healthy server is not."""

import os

import harness


class Hedge(harness.Case):
    FILES = 140

    def setUp(self):
        super().setUp()
        for i in range(self.FILES + 1):
            self.server.put(f"d{i}/f", b"%d" % i)

    def read(self, m, i):
        with open(os.path.join(m.path, f"d{i}/f"), "rb") as f:
            self.assertEqual(f.read(), b"%d" % i)

    def test_a_straggler_does_not_hold_the_reader(self):
        m = self.mount("--read-only", "--ahead-files", "0")
        for i in range(self.FILES):
            self.read(m, i)
        before = m.stats()["requests"]
        self.assertEqual(before["hedges"], 0)
        self.assertEqual(before["GET"]["sent"], self.FILES)
        self.server.faults(f"op=GET key=d{self.FILES}/f count=1 "
                           "action=delay:8000")
        self.within(4, lambda: self.read(m, self.FILES))
        after = m.stats()["requests"]
        self.assertEqual(after["hedges"], 1)
        self.assertEqual(after["hedges_won"], 1)
        self.assertEqual(after["GET"]["sent"], self.FILES + 2)


if __name__ == "__main__":
    harness.unittest.main()
