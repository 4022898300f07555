/*
 * The ceiling: what one rendition costs in a loop of plain libvips calls, with no server around it.
 *
 * Written as a person would who knows libvips well and has only this one job: every call the picture needs, none that it
 * does not. Settings are those of the edge, so that the bytes that come out can be compared. Must not share code with
 * the edge.
 *
 * Usage: ceiling SOURCE WIDTH jpeg|webp|avif WARM_UPS COUNT OUT
 * Writes the last rendition to OUT and one line of JSON to standard output.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <vips/vips.h>

/* Of jemalloc, which this is linked with: the same library the edge has in it, so that libvips allocates alike in both.
 * Another build of jemalloc gives memory back to the system and takes it again for each picture: a tenth more CPU time. */
extern int mallctl(const char *name, void *old, size_t *old_length, void *value, size_t value_length);

/* As the edge's encoder table says for a transform that names no quality. */
#define JPEG_QUALITY 80
#define WEBP_QUALITY 79
#define WEBP_EFFORT 4
#define AVIF_QUALITY 63
#define AVIF_EFFORT 1

#define COUNT_MAX 1000000

/* The decoder leaves the resampler a factor of two, as the edge does. */
#define RESAMPLER_FACTOR 2

#if VIPS_MAJOR_VERSION > 8 || (VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION >= 15)
#define NO_METADATA "keep", VIPS_FOREIGN_KEEP_NONE
#else
#define NO_METADATA "strip", TRUE
#endif

struct bytes {
	void *data;
	size_t length;
};

static void
die(const char *what)
{
	fprintf(stderr, "ceiling: %s: %s\n", what, vips_error_buffer());
	exit(EXIT_FAILURE);
}

static double
cpu_seconds(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage) != 0)
		die("getrusage");
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double
wall_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static int
is_jpeg(const struct bytes *source)
{
	return source->length > 2 && memcmp(source->data, "\xff\xd8", 2) == 0;
}

/* The source, opened; a JPEG shrunk by its decoder as far as `width` allows. `size` is the size of the original. */
static VipsImage *
load(const struct bytes *source, int width, int size[2])
{
	VipsImage *header, *image;
	int shrink = 8;

	header = vips_image_new_from_buffer(source->data, source->length, "",
		"access", VIPS_ACCESS_SEQUENTIAL, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
	if (!header)
		return NULL;
	size[0] = vips_image_get_width(header);
	size[1] = vips_image_get_height(header);
	if (!is_jpeg(source))
		return header;
	while (shrink > 1 && size[0] < width * shrink * RESAMPLER_FACTOR)
		shrink /= 2;
	if (shrink == 1)
		return header;
	g_object_unref(header);
	if (vips_jpegload_buffer(source->data, source->length, &image, "shrink", shrink,
			"access", VIPS_ACCESS_SEQUENTIAL, "fail_on", VIPS_FAIL_ON_ERROR, NULL))
		return NULL;
	return image;
}

/* `image` at exactly `width` × `height`; takes the reference. */
static VipsImage *
scale(VipsImage *image, int width, int height)
{
	VipsImage *scaled;
	int failed = vips_resize(image, &scaled, (double) width / vips_image_get_width(image),
		"vscale", (double) height / vips_image_get_height(image), NULL);

	g_object_unref(image);
	return failed ? NULL : scaled;
}

/* As `scale`, with alpha multiplied in meanwhile and numbers kept in 8 bits. */
static VipsImage *
scale_with_alpha(VipsImage *image, int width, int height)
{
	VipsImage *multiplied, *narrow, *scaled, *straight, *result;
	int failed;

	failed = vips_premultiply(image, &multiplied, NULL);
	g_object_unref(image);
	if (failed)
		return NULL;
	failed = vips_cast_uchar(multiplied, &narrow, NULL);
	g_object_unref(multiplied);
	if (failed)
		return NULL;
	scaled = scale(narrow, width, height);
	if (!scaled)
		return NULL;
	failed = vips_unpremultiply(scaled, &straight, NULL);
	g_object_unref(scaled);
	if (failed)
		return NULL;
	failed = vips_cast_uchar(straight, &result, NULL);
	g_object_unref(straight);
	return failed ? NULL : result;
}

static int
save(VipsImage *image, const char *format, struct bytes *out)
{
	if (strcmp(format, "jpeg") == 0)
		return vips_jpegsave_buffer(image, &out->data, &out->length,
			"Q", JPEG_QUALITY, "optimize_coding", TRUE, NO_METADATA, NULL);
	if (strcmp(format, "webp") == 0)
		return vips_webpsave_buffer(image, &out->data, &out->length,
			"Q", WEBP_QUALITY, "effort", WEBP_EFFORT, NO_METADATA, NULL);
	return vips_heifsave_buffer(image, &out->data, &out->length,
		"compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1, "Q", AVIF_QUALITY, "bitdepth", 8,
		"effort", AVIF_EFFORT, NO_METADATA, NULL);
}

/* Before 8.15, libvips writes an EXIF block into each WebP, told to strip or not; the edge takes it out again. Here that
 * is done once, after the clock has stopped (RFC 9649, section 2). */
static void
drop_webp_metadata(struct bytes *file)
{
	enum { RIFF_HEAD = 12, CHUNK_HEAD = 8, FLAG_ANIMATION = 0x02, FLAG_ALPHA = 0x10 };
	guint8 *data = file->data;
	size_t from = RIFF_HEAD, to = RIFF_HEAD;
	guint32 size;

	while (from + CHUNK_HEAD <= file->length) {
		guint8 *chunk = data + from;
		size_t whole;
		int keep = 1;

		memcpy(&size, chunk + 4, sizeof size);
		/* A chunk of odd length is followed by one byte of padding. */
		whole = CHUNK_HEAD + (size_t) GUINT32_FROM_LE(size) + (GUINT32_FROM_LE(size) & 1);
		if (whole <= CHUNK_HEAD || whole > file->length - from)
			die("the WebP is malformed");
		if (!memcmp(chunk, "EXIF", 4) || !memcmp(chunk, "XMP ", 4) || !memcmp(chunk, "ICCP", 4))
			keep = 0;
		else if (!memcmp(chunk, "VP8X", 4)) {
			chunk[CHUNK_HEAD] &= FLAG_ALPHA | FLAG_ANIMATION;
			keep = chunk[CHUNK_HEAD] != 0;
		}
		if (keep) {
			memmove(data + to, chunk, whole);
			to += whole;
		}
		from += whole;
	}
	file->length = to;
	size = GUINT32_TO_LE((guint32) (to - CHUNK_HEAD));
	memcpy(data + 4, &size, sizeof size);
}

static int
render(const struct bytes *source, int width, const char *format, struct bytes *out)
{
	int size[2], height, failed;
	VipsImage *image = load(source, width, size);

	if (!image)
		return -1;
	height = ((long) size[1] * width + size[0] / 2) / size[0];
	image = vips_image_hasalpha(image) ? scale_with_alpha(image, width, height) : scale(image, width, height);
	if (!image)
		return -1;
	failed = save(image, format, out);
	g_object_unref(image);
	return failed;
}

int
main(int argc, char **argv)
{
	struct bytes source, out = { NULL, 0 };
	const char *format;
	char *end;
	long width, warm_ups, count, i;
	double cpu = 0, wall = 0;
	const char *allocator;
	size_t allocator_length = sizeof allocator;

	if (argc != 7) {
		fprintf(stderr, "usage: ceiling SOURCE WIDTH jpeg|webp|avif WARM_UPS COUNT OUT\n");
		return EXIT_FAILURE;
	}
	format = argv[3];
	width = strtol(argv[2], &end, 10);
	warm_ups = strtol(argv[4], &end, 10);
	count = strtol(argv[5], &end, 10);
	if (width < 1 || width > 8192 || warm_ups < 0 || count < 1 || warm_ups + count > COUNT_MAX ||
		(strcmp(format, "jpeg") && strcmp(format, "webp") && strcmp(format, "avif"))) {
		fprintf(stderr, "ceiling: an argument is out of range\n");
		return EXIT_FAILURE;
	}
	if (mallctl("version", &allocator, &allocator_length, NULL, 0) != 0)
		die("jemalloc does not answer");
	if (VIPS_INIT(argv[0]))
		die("init");
	/* As the edge: parallel across pictures, not within one, and nothing kept that cannot be used again. */
	vips_concurrency_set(1);
	vips_cache_set_max(0);
	vips_cache_set_max_mem(0);
	vips_cache_set_max_files(0);
	if (!g_file_get_contents(argv[1], (char **) &source.data, &source.length, NULL))
		die("cannot read the source");

	for (i = 0; i < warm_ups + count; i++) {
		if (i == warm_ups) {
			cpu = cpu_seconds();
			wall = wall_seconds();
		}
		g_free(out.data);
		if (render(&source, width, format, &out))
			die("render");
	}
	cpu = cpu_seconds() - cpu;
	wall = wall_seconds() - wall;

	if (strcmp(format, "webp") == 0)
		drop_webp_metadata(&out);
	if (!g_file_set_contents(argv[6], out.data, out.length, NULL))
		die("cannot write the rendition");
	printf("{\"count\":%ld,\"cpu_seconds\":%.6f,\"wall_seconds\":%.6f,\"libvips\":\"%s\",\"jemalloc\":\"%s\"}\n",
		count, cpu, wall, vips_version_string(), allocator);
	g_free(out.data);
	g_free(source.data);
	vips_shutdown();
	return EXIT_SUCCESS;
}
