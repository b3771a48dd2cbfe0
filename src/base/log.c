/*
 * One write(2) per line, so lines of several threads (and of several daemons
 * appending to one file) do not mix. A call site that floods is cut off for
 * the rest of the second and its silence is counted.
 */
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum log_level log_level = LOG_LEVEL_INFO;

static int fd = STDERR_FILENO;
static bool to_syslog;
static char *file_path;

static const char *const names[] = { "ERROR", "WARN", "INFO", "DEBUG" };

static int open_file(const char *path)
{
	int new_fd =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	return new_fd < 0 ? -errno : new_fd;
}

int log_open(const char *path, enum log_level level)
{
	log_close();
	log_level = level;
	if (!path || strcmp(path, "-") == 0)
		return 0;
	if (strcmp(path, "syslog") == 0) {
		openlog("r2fs", LOG_PID, LOG_DAEMON);
		to_syslog = true;
		return 0;
	}
	int r = open_file(path);
	if (r < 0)
		return r;
	fd = r;
	file_path = xstrdup(path);
	return 0;
}

int log_reopen(void)
{
	int new_fd;

	if (!file_path)
		return 0;
	new_fd = open_file(file_path);
	if (new_fd < 0)
		return new_fd;
	int r = dup3(new_fd, fd, O_CLOEXEC) < 0 ? -errno : 0;
	close(new_fd);
	return r;
}

void log_close(void)
{
	if (to_syslog)
		closelog();
	to_syslog = false;
	if (file_path)
		close(fd);
	free(file_path);
	file_path = NULL;
	fd = STDERR_FILENO;
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcasecmp(name, names[i]) == 0) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

static bool pass(struct log_site *site, long second, unsigned *ret_dropped)
{
	long last =
		__atomic_exchange_n(&site->second, second, __ATOMIC_RELAXED);
	unsigned n;

	*ret_dropped = 0;
	if (last != second) {
		n = __atomic_exchange_n(&site->count, 1, __ATOMIC_RELAXED);
		if (n > LOG_RATE_BURST)
			*ret_dropped = n - LOG_RATE_BURST;
		return true;
	}
	return __atomic_add_fetch(&site->count, 1, __ATOMIC_RELAXED) <=
	       LOG_RATE_BURST;
}

static void put(enum log_level level, const char *module, const char *text)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO,
					  LOG_DEBUG };
	int64_t now = clock_wall_ns();
	time_t sec = now / 1000000000;
	char line[2304];
	struct tm tm;
	int n;

	if (to_syslog) {
		syslog(priorities[level], "%s: %s", module, text);
		return;
	}
	gmtime_r(&sec, &tm);
	n = snprintf(line, sizeof(line),
		     "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %s %s: %s\n",
		     tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		     tm.tm_min, tm.tm_sec, (int)(now / 1000000 % 1000),
		     names[level], module, text);
	if (n >= (int)sizeof(line)) {
		n = sizeof(line) - 1;
		line[n - 1] = '\n';
	}
	if (write(fd, line, n) < 0)
		return;
}

void log_write(struct log_site *site, enum log_level level, const char *module,
	       const char *fmt, ...)
{
	char text[2048], more[64];
	unsigned dropped;
	va_list ap;

	if (!pass(site, clock_wall_s(), &dropped))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	if (dropped) {
		snprintf(more, sizeof(more), "%u more like the next line",
			 dropped);
		put(level, module, more);
	}
	put(level, module, text);
}
