/*
 * Pages of the database that were ever looked at stay mapped and count as
 * resident memory of the daemon: with ten million names, 800 MiB. They are the
 * kernel's to take back, but who watches the daemon, or its cgroup, sees a
 * process beyond its budget. So when file pages pass TRIM_BYTES, the map's are
 * unmapped. Nothing is read again for that: the next access finds the page in
 * the page cache. Asking the kernel costs 2 us, hence once in TRIM_EVERY calls
 * of a thread.
 *
 * LMDB does not tell where its map is; /proc does.
 */
#include "cache/kv_map.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { TRIM_EVERY = 256 };

static const size_t TRIM_BYTES = 128 << 20;

static void match_line(struct kv_map *m, const char *line,
		       const struct stat *st)
{
	uintptr_t from, to;
	unsigned major, minor;
	unsigned long long ino;

	if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*4s %*x %x:%x %llu", &from,
		   &to, &major, &minor, &ino) != 5)
		return;
	if (ino != st->st_ino || makedev(major, minor) != st->st_dev ||
	    to - from <= m->len)
		return;
	m->addr = (void *)from;
	m->len = to - from;
}

void kv_map_find(struct kv_map *m, int fd)
{
	char line[8192];
	struct stat st;
	FILE *f;

	m->addr = NULL;
	m->len = 0;
	if (fstat(fd, &st))
		return;
	f = fopen("/proc/self/maps", "re");
	while (f && fgets(line, sizeof(line), f))
		match_line(m, line, &st);
	if (f)
		fclose(f);
}

static size_t resident_file_bytes(void)
{
	unsigned long size, resident, shared = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f && fscanf(f, "%lu %lu %lu", &size, &resident, &shared) != 3)
		shared = 0;
	if (f)
		fclose(f);
	return shared * (size_t)sysconf(_SC_PAGESIZE);
}

void kv_map_trim(const struct kv_map *m)
{
	static __thread unsigned calls;

	if (!m->addr || ++calls % TRIM_EVERY ||
	    resident_file_bytes() < TRIM_BYTES)
		return;
	(void)madvise(m->addr, m->len, MADV_DONTNEED);
}
