/*
 * What the server and this machine allow: a bare client that keeps N
 * connections busy with requests known beforehand and does nothing with what
 * arrives. Each line of standard input is one request, fields parted by tabs:
 *
 *	METHOD URL RANGE BODY-FILE BODY-OFFSET BODY-LENGTH HEADER...
 *
 * with "-" for what a request does not have. Requests come signed, so that no
 * time of the run goes into that. One line of JSON goes to standard output.
 * $BENCH_CA is the certificate to trust where the URLs are https.
 */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FIELDS = 6 };

struct job {
	char *field[FIELDS];
	struct curl_slist *headers;
};

struct slot {
	CURL *easy;
	int fd;
	off_t off;
	size_t left;
};

static struct job *jobs;
static size_t job_count, job_next, failures;
static unsigned long long received;
static double started, first_byte;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "limit: %s\n", what);
	exit(2);
}

static void job_read(char *line)
{
	struct job *j;
	char *s;

	if (job_count % 1024 == 0)
		jobs = realloc(jobs, (job_count + 1024) * sizeof(*jobs));
	if (!jobs)
		die("out of memory");
	j = &jobs[job_count++];
	memset(j, 0, sizeof(*j));
	line[strcspn(line, "\n")] = 0;
	for (int i = 0; i < FIELDS; i++) {
		s = strsep(&line, "\t");
		if (!s)
			die("a line with too few fields");
		j->field[i] = strcmp(s, "-") ? strdup(s) : NULL;
	}
	while ((s = strsep(&line, "\t")))
		j->headers = curl_slist_append(j->headers, s);
}

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	if (!received)
		first_byte = now() - started;
	received += size * n;
	return size * n;
}

static size_t on_send(char *data, size_t size, size_t n, void *arg)
{
	struct slot *s = arg;
	size_t want = size * n < s->left ? size * n : s->left;
	ssize_t got = pread(s->fd, data, want, s->off);

	if (got < 0 || (size_t)got < want)
		return CURL_READFUNC_ABORT;
	s->off += got;
	s->left -= got;
	return got;
}

static void slot_body(struct slot *s, const struct job *j)
{
	s->fd = open(j->field[3], O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
		die("cannot open a body");
	s->off = strtoll(j->field[4], NULL, 10);
	s->left = strtoull(j->field[5], NULL, 10);
	curl_easy_setopt(s->easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(s->easy, CURLOPT_UPLOAD_BUFFERSIZE, 1048576L);
	curl_easy_setopt(s->easy, CURLOPT_READFUNCTION, on_send);
	curl_easy_setopt(s->easy, CURLOPT_READDATA, s);
	curl_easy_setopt(s->easy, CURLOPT_INFILESIZE_LARGE,
			 (curl_off_t)s->left);
}

static void slot_start(CURLM *multi, struct slot *s)
{
	const struct job *j = &jobs[job_next++];
	const char *ca = getenv("BENCH_CA");

	curl_easy_reset(s->easy);
	s->fd = -1;
	curl_easy_setopt(s->easy, CURLOPT_URL, j->field[1]);
	curl_easy_setopt(s->easy, CURLOPT_PATH_AS_IS, 1L);
	if (ca && *ca)
		curl_easy_setopt(s->easy, CURLOPT_CAINFO, ca);
	curl_easy_setopt(s->easy, CURLOPT_BUFFERSIZE, 524288L);
	curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
	curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, j->headers);
	if (j->field[3])
		slot_body(s, j);
	curl_easy_setopt(s->easy, CURLOPT_CUSTOMREQUEST, j->field[0]);
	if (j->field[2])
		curl_easy_setopt(s->easy, CURLOPT_RANGE, j->field[2]);
	curl_multi_add_handle(multi, s->easy);
}

/* Takes what has ended off the multi handle and puts the next in its place;
 * how many ended for good. */
static int collect(CURLM *multi)
{
	struct slot *s;
	CURLMsg *m;
	int left, idle = 0;
	long status;

	while ((m = curl_multi_info_read(multi, &left))) {
		CURL *easy = m->easy_handle;
		bool bad = m->data.result != CURLE_OK;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&s);
		if (bad || status / 100 != 2)
			failures++;
		if (s->fd >= 0)
			close(s->fd);
		curl_multi_remove_handle(multi, easy);
		if (job_next < job_count)
			slot_start(multi, s);
		else
			idle++;
	}
	return idle;
}

static void run(int connections)
{
	struct slot *slots = calloc(connections, sizeof(*slots));
	CURLM *multi = curl_multi_init();
	int busy = 0, running;

	if (!slots || !multi)
		die("out of memory");
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)connections);
	started = now();
	for (; busy < connections && job_next < job_count; busy++) {
		slots[busy].easy = curl_easy_init();
		slot_start(multi, &slots[busy]);
	}
	while (busy) {
		curl_multi_perform(multi, &running);
		busy -= collect(multi);
		if (busy)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	printf("{\"seconds\": %.6f, \"requests\": %zu, \"bytes\": %llu, "
	       "\"first_byte\": %.6f, \"failures\": %zu}\n",
	       now() - started, job_count, received, first_byte, failures);
	for (int i = 0; i < connections && slots[i].easy; i++)
		curl_easy_cleanup(slots[i].easy);
	curl_multi_cleanup(multi);
	free(slots);
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t room = 0;

	if (argc != 2 || atoi(argv[1]) < 1)
		die("usage: limit CONNECTIONS <REQUESTS");
	while (getline(&line, &room, stdin) > 0)
		job_read(line);
	free(line);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	run(atoi(argv[1]));
	for (size_t i = 0; i < job_count; i++) {
		curl_slist_free_all(jobs[i].headers);
		for (int k = 0; k < FIELDS; k++)
			free(jobs[i].field[k]);
	}
	free(jobs);
	return failures != 0;
}
