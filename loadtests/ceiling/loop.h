/*
 * What the C programs share: the clock, the start of libvips and the way out. Must not share code with the edge.
 */

#ifndef LOOP_H
#define LOOP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <vips/vips.h>

/* Of jemalloc, which this is linked with: the same library the edge has in it, so that libvips allocates alike in both.
 * Another build of jemalloc gives memory back to the system and takes it again for each picture: a tenth more CPU time. */
extern int mallctl(const char *name, void *old, size_t *old_length, void *value, size_t value_length);

#define COUNT_MAX 1000000

#if VIPS_MAJOR_VERSION > 8 || (VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION >= 15)
#define NO_METADATA "keep", VIPS_FOREIGN_KEEP_NONE
#else
#define NO_METADATA "strip", TRUE
#endif

struct bytes {
	void *data;
	size_t length;
};

static inline void
die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", g_get_prgname(), what, vips_error_buffer());
	exit(EXIT_FAILURE);
}

static inline double
cpu_seconds(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage) != 0)
		die("getrusage");
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* The most resident memory so far. Not that of getrusage, which remembers the program that this one was started by. */
static inline long
peak_kib(void)
{
	char line[256];
	long peak = -1;
	FILE *status = fopen("/proc/self/status", "r");

	if (!status)
		die("/proc/self/status");
	while (peak < 0 && fgets(line, sizeof line, status))
		sscanf(line, "VmHWM: %ld kB", &peak);
	fclose(status);
	if (peak < 0)
		die("VmHWM");
	return peak;
}

static inline double
wall_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* A number of the command line. */
static inline long
number(const char *text, long least, long most)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < least || value > most) {
		fprintf(stderr, "%s: %s is not from %ld to %ld\n", g_get_prgname(), text, least, most);
		exit(EXIT_FAILURE);
	}
	return value;
}

/* Starts libvips as the edge does: parallel across pictures, not within one, and nothing kept that cannot be used again.
 * Returns the version of jemalloc. */
static inline const char *
start(const char *name)
{
	const char *allocator;
	size_t allocator_length = sizeof allocator;

	if (VIPS_INIT(name))
		die("init");
	if (mallctl("version", &allocator, &allocator_length, NULL, 0) != 0)
		die("jemalloc does not answer");
	vips_concurrency_set(1);
	vips_cache_set_max(0);
	vips_cache_set_max_mem(0);
	vips_cache_set_max_files(0);
	return allocator;
}

#endif
