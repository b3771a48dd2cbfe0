/*
 * What many names cost: inserts N dentries as listings of folders of 1,000
 * would, then looks some up and reads folders back.
 *
 *   names FOLDER [N]     N defaults to 10,000,000; FOLDER must not exist
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/rand.h"
#include "cache/cache.h"
#include "cache/meta.h"

enum { PAGE = 1000, LOOKUPS = 1000000, FOLDERS_READ = 300 };

static uint64_t status_kib(const char *field)
{
	char line[256];
	uint64_t kib = 0;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, field, strlen(field)) == 0)
			kib = strtoull(line + strlen(field) + 1, NULL, 10);
	if (f)
		fclose(f);
	return kib;
}

static double seconds_since(uint64_t start_ns)
{
	return (double)(clock_mono_ns() - start_ns) / 1e9;
}

static void fill_page(struct meta_entry *page, uint64_t folder)
{
	for (unsigned i = 0; i < PAGE; i++) {
		struct meta_rec *r = &page[i].rec;

		memset(r, 0, sizeof(*r));
		snprintf(page[i].name, sizeof(page[i].name),
			 "part-%06u.parquet", i);
		r->kind = META_FILE;
		r->size = 1 << 20;
		r->mtime_ns = 1700000000000000000 + (int64_t)i * 1000000;
		r->checked_ns = clock_wall_ns();
		snprintf(r->etag, sizeof(r->etag), "%016" PRIx64 "%016x",
			 rand_u64(), i);
	}
}

static int insert(struct meta *m, uint64_t first_ino, uint64_t folders)
{
	struct meta_entry *page = calloc(PAGE, sizeof(*page));
	int err = 0;

	for (uint64_t f = 0; f < folders && !err; f++) {
		uint32_t gen;

		fill_page(page, f);
		err = meta_dir_begin(m, first_ino + f, &gen);
		if (!err)
			err = meta_dir_page(m, first_ino + f, gen, page, PAGE);
		if (!err)
			err = meta_dir_end(m, first_ino + f, gen,
					   clock_wall_ns(), 0);
	}
	free(page);
	return err ? err : meta_flush(m);
}

static unsigned look_up(struct meta *m, uint64_t first_ino, uint64_t folders)
{
	struct meta_rec rec;
	char name[64];
	unsigned found = 0;

	for (unsigned i = 0; i < LOOKUPS; i++) {
		snprintf(name, sizeof(name), "part-%06u.parquet",
			 (unsigned)rand_below(PAGE));
		if (meta_get(m, first_ino + rand_below(folders), name, &rec))
			continue;
		found++;
		meta_rec_release(&rec);
	}
	return found;
}

static uint64_t read_back(struct meta *m, uint64_t first_ino, uint64_t folders)
{
	struct meta_entry *page = calloc(PAGE + 1, sizeof(*page));
	uint64_t n = 0;

	for (unsigned i = 0; i < FOLDERS_READ; i++) {
		int got = meta_list(m, first_ino + rand_below(folders), NULL,
				    page, PAGE + 1);

		for (int k = 0; k < got; k++)
			meta_rec_release(&page[k].rec);
		n += got > 0 ? (uint64_t)got : 0;
	}
	free(page);
	return n;
}

static void say_memory(const char *when)
{
	printf("%-10s anonymous %" PRIu64 " MiB, file pages %" PRIu64
	       " MiB (the kernel's to take back)\n",
	       when, status_kib("RssAnon") >> 10, status_kib("RssFile") >> 10);
}

int main(int argc, char **argv)
{
	uint64_t n = argc > 2 ? strtoull(argv[2], NULL, 10) : 10000000;
	uint64_t folders = n / PAGE, first = 1000000000, start;
	struct cache_config config = { .identity = "bench" };
	struct cache_stats stats;
	struct cache *cache;
	char why[1024];

	if (argc < 2 || !folders || mkdir(argv[1], 0700)) {
		fprintf(stderr, "usage: names NEW-FOLDER [N]\n");
		return 2;
	}
	config.dir = argv[1];
	if (cache_open(&config, &cache, why, sizeof(why))) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	start = clock_mono_ns();
	if (insert(cache_meta(cache), first, folders))
		return 1;
	printf("inserted   %" PRIu64 " names, %.0f a second\n", n,
	       (double)n / seconds_since(start));
	say_memory("inserted");
	cache_stats_get(cache, &stats);
	printf("disk       %.1f bytes a name (%" PRIu64 " MiB)\n",
	       (double)stats.map_bytes / (double)n, stats.map_bytes >> 20);
	start = clock_mono_ns();
	unsigned found = look_up(cache_meta(cache), first, folders);

	printf("looked up  %u of %u, %.0f a second\n", found, LOOKUPS,
	       LOOKUPS / seconds_since(start));
	start = clock_mono_ns();
	n = read_back(cache_meta(cache), first, folders);
	printf("read back  %" PRIu64 " names of %u folders, %.0f a second\n", n,
	       FOLDERS_READ, (double)n / seconds_since(start));
	say_memory("read");
	cache_close(cache);
	printf("peak       %" PRIu64 " MiB resident in all\n",
	       status_kib("VmHWM") >> 10);
	return found == LOOKUPS ? 0 : 1;
}
