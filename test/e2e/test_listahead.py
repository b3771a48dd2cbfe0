"""Folders are listed before they are read, where it pays and only there."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Case, run

RTT = 0.03
PAGE = 1000


class ListAhead(Case):
    server_options = ("--synthetic", f"bucket:t/:{100 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:long/:{30 * 2500}:10:2500",
                      "--synthetic", f"bucket:deep/0/:{2 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:deep/1/:{2 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:deep/2/:{2 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:deep/3/:{2 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:deep/4/:{2 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:deep/5/:{2 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:deep/6/:{2 * PAGE}:10:{PAGE}",
                      "--synthetic", f"bucket:deep/7/:{2 * PAGE}:10:{PAGE}")

    def folders(self, m, parent="t"):
        """The folders in parent, and the counts from here on."""
        names = [e.path for e in os.scandir(f"{m.path}/{parent}")]
        self.server.reset()
        return names

    def lists(self):
        """LISTs so far, of which there are no more to come."""
        seen = -1
        while seen != (seen := self.server.stats()["ops"]["LIST"]):
            time.sleep(0.3)
        self.assertEqual(self.requests(), seen)
        return seen

    def ahead(self, m):
        """Folders listed ahead so far; of these read, and given up."""
        a = m.stats()["ahead"]
        return a["folders"], a["folders_used"], a["folders_wasted"]

    def read(self, folders, names=PAGE):
        for f in folders:
            self.assertEqual(len(os.listdir(f)), names, f)

    def find(self, m, path):
        start = time.monotonic()
        out = run("find", f"{m.path}/{path}", "-type", "f").stdout
        return len(out.splitlines()), time.monotonic() - start


class Walks(ListAhead):
    def test_one_list_for_each_folder_and_several_at_once(self):
        m = self.mount()
        self.server.latency(30)
        self.server.reset()
        found, seconds = self.find(m, "t")
        self.assertEqual(found, 100 * PAGE)
        self.assertEqual(self.lists(), 101)
        self.server.latency(300)
        m.stop()
        self.mounts.remove(m)
        m = self.mount()
        folders = self.folders(m)
        start = time.monotonic()
        self.read(folders)
        self.assertLess(time.monotonic() - start, 100 * 0.3 / 3)
        self.assertEqual(self.lists(), 100)
        folders, used, wasted = self.ahead(m)
        self.assertGreater(folders, 50)
        self.assertEqual((used, wasted), (folders, 0))

    def test_folders_of_several_pages(self):
        m = self.mount()
        folders = self.folders(m, "long")
        self.server.latency(300)
        start = time.monotonic()
        self.read(folders, 2500)
        self.assertLess(time.monotonic() - start, 90 * 0.3 / 2)
        self.assertEqual(self.lists(), 90)

    def test_a_tree_of_two_levels(self):
        m = self.mount()
        self.server.latency(300)
        self.server.reset()
        found, seconds = self.find(m, "deep")
        self.assertEqual(found, 16 * PAGE)
        # the tree, eight, two in each, and one flat page in vain
        self.assertLessEqual(self.lists(), 1 + 8 + 16 + 1)
        self.assertLess(seconds, 26 * 0.3 * 2 / 3)

    def test_a_reader_who_comes_meanwhile_waits_for_the_listing(self):
        m = self.mount()
        folders = self.folders(m)
        self.server.latency(1000)
        with ThreadPoolExecutor(4) as pool:
            self.read(folders[:3])
            list(pool.map(lambda f: self.read([f]), folders[3:6]))
        self.server.latency(0)
        self.read(folders[6:])
        self.assertEqual(self.lists(), 100)

    def test_the_first_page_is_answered_before_the_last_is_there(self):
        m = self.mount()
        folders = self.folders(m, "long")
        self.read(folders[:2], 2500)
        self.server.latency(2500)
        with os.scandir(folders[2]) as third, os.scandir(folders[3]) as fourth:
            next(third)
            # listed ahead meanwhile, its first page of three
            self.within(1, lambda: next(fourth))
            self.assertLessEqual(self.server.stats()["ops"]["LIST"], 6 + 6)
            self.server.latency(0)
            for names in third, fourth:
                self.assertEqual(len(list(names)), 2500 - 1)
        self.read(folders[4:], 2500)
        self.assertEqual(self.lists(), 90)


class Waste(ListAhead):
    def test_a_reader_that_stops_has_caused_no_more_than_it_used(self):
        for n in (3, 5, 20):
            m = self.mount()
            with self.subTest(n):
                self.read(self.folders(m)[:n])
                self.assertLessEqual(self.lists(), 2 * n)
            m.stop()
            self.mounts.remove(m)

    def test_what_is_given_up_is_counted(self):
        m = self.mount()
        folders = self.folders(m)
        self.read(folders[:20])
        self.lists()
        ahead, used, wasted = self.ahead(m)
        self.assertGreater(ahead, used)
        self.assertGreater(used, 10)
        self.assertEqual(wasted, 0)
        self.read(folders[90:50:-5])
        self.assertEqual(self.ahead(m), (ahead, used, ahead - used))

    def test_the_same_of_folders_of_several_pages(self):
        m = self.mount()
        self.read(self.folders(m, "long")[:4], 2500)
        self.assertLessEqual(self.lists(), 2 * 12)

    def test_two_in_order_are_no_walk(self):
        m = self.mount()
        self.read(self.folders(m)[:2])
        self.assertEqual(self.lists(), 2)

    def test_random_order(self):
        for seed in range(3):
            m = self.mount()
            folders = self.folders(m)
            random.Random(seed).shuffle(folders)
            with self.subTest(seed):
                self.read(folders[:50])
                self.assertLessEqual(self.lists(), 55)
            m.stop()
            self.mounts.remove(m)

    def test_every_second_folder(self):
        m = self.mount()
        folders = self.folders(m)
        self.read(folders[:6])
        self.read(folders[7::2])
        self.assertLessEqual(self.lists(), 6 + 47 + 12)

    def test_nothing_beside_the_folder_where_the_walk_began(self):
        m = self.mount()
        self.folders(m, "deep")
        self.find(m, "deep/3")
        self.assertEqual(self.lists(), 3)

    def cost(self, *options, pause=0):
        m = self.mount(*options)
        folders = [os.open(f, os.O_DIRECTORY) for f in self.folders(m)[:8]]
        self.lists()
        self.server.reset()
        for fd in folders:
            time.sleep(pause)
            self.assertEqual(len(os.listdir(fd)), PAGE)
        for fd in folders:
            os.close(fd)
        lists = self.lists()
        m.stop()
        self.mounts.remove(m)
        return lists

    def test_what_will_expire_unread_is_not_listed(self):
        for ttl, pause in ((0, 0), (1, 0.6)):
            with self.subTest(ttl):
                options = "--metadata-ttl", str(ttl)
                self.assertEqual(
                    self.cost(*options, pause=pause),
                    self.cost(*options, "--ahead-files", "0", pause=pause))

    def test_none_when_it_is_turned_off(self):
        self.assertEqual(self.cost("--ahead-files", "0"), 8)

    def test_few_connections(self):
        m = self.mount("--max-connections", "8")
        self.read(self.folders(m)[:20])
        self.assertLessEqual(self.lists(), 22)


class Changes(ListAhead):
    def test_small_folders_among_files(self):
        """The pages of a walk, as without reading ahead."""
        keys = [f"s/{kind}{i:03}{rest}" for i in range(100)
                for kind, rest in (("d", "/x"), ("d", "/y"), ("f", ""))]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.server.put, keys))
        m = self.mount()
        self.server.reset()
        self.assertEqual(self.find(m, "s")[0], len(keys))
        self.assertEqual(self.lists(), 4)

    def test_files_between_the_folders(self):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: self.server.put(f"t/x{i}", b"x"),
                          range(50)))
        m = self.mount()
        self.server.reset()
        self.assertEqual(self.find(m, "t")[0], 100 * PAGE + 50)
        self.assertEqual(self.lists(), 101)

    def test_folders_known_already_cost_nothing(self):
        m = self.mount()
        folders = self.folders(m)
        self.read(folders[5:40:5])
        self.server.reset()
        self.read(folders)
        self.assertEqual(self.lists(), 93)

    def test_names_made_and_removed_meanwhile(self):
        m = self.mount()
        folders = self.folders(m)
        self.read(folders[:5])
        os.mkdir(folders[6] + "-new")
        os.makedirs(folders[7] + "/inner")
        os.unlink(folders[8] + "/" + sorted(os.listdir(folders[8]))[0])
        with open(folders[9] + "/theirs", "w") as f:
            f.write("x")
        self.read(folders[5:7])
        self.assertEqual(os.listdir(folders[6] + "-new"), [])
        self.assertIn("inner", os.listdir(folders[7]))
        self.assertEqual(len(os.listdir(folders[8])), PAGE - 1)
        self.assertIn("theirs", os.listdir(folders[9]))
        self.read(folders[10:])
        self.assertEqual(len(os.listdir(f"{m.path}/t")), 101)

    def test_a_folder_that_was_removed(self):
        keys = [f"r/d{i}/{j:03}" for i in range(9) for j in range(250)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.server.put, keys))
        m = self.mount()
        folders = self.folders(m, "r")
        self.read(folders[:3], 250)
        run("rm", "-r", folders[4], folders[7])
        self.read(folders[3:4] + folders[5:7] + folders[8:], 250)
        self.assertEqual(len(os.listdir(f"{m.path}/r")), 7)


class Trouble(ListAhead):
    def test_unmounting_does_not_wait_for_what_nobody_asked_for(self):
        m = self.mount()
        folders = self.folders(m)
        self.read(folders[:20])
        self.server.faults("op=LIST key=* action=delay:8000")
        self.read(folders[20:22])
        self.within(5, m.unmount)
        self.server.faults("")

    def test_nothing_ahead_while_r2_throttles(self):
        m = self.mount()
        folders = self.folders(m)
        self.read(folders[:2])
        self.server.faults("op=LIST key=* count=1 action=status:503")
        os.listdir(f"{m.path}/deep")
        self.server.faults("")
        self.server.reset()
        self.read(folders[2:5])
        self.assertEqual(self.lists(), 3)
        time.sleep(1)
        self.read(folders[5:6])
        self.assertGreater(self.lists(), 4)

    def test_a_listing_that_fails_is_asked_for_by_its_reader(self):
        m = self.mount()
        m.expected_errors = True
        folders = self.folders(m)
        self.read(folders[:3])
        self.assertEqual(self.lists(), 6)
        # what the fourth lets go ahead
        self.server.faults("op=LIST key=* count=2 action=status:403")
        self.read(folders[3:4])
        self.assertEqual(self.lists(), 8)
        self.server.faults("")
        self.read(folders[4:])
        self.assertEqual(self.lists(), 102)


if __name__ == "__main__":
    import unittest
    unittest.main()
