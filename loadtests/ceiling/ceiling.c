/*
 * The ceiling: what one rendition costs in a loop of plain libvips calls, with no server around it.
 *
 * Written as a person would who knows libvips well and has only this one job: every call the picture needs, none that it
 * does not. Settings are those of the edge, so that the bytes that come out can be compared. Must not share code with
 * the edge.
 *
 * Usage: ceiling SOURCE WIDTH jpeg|webp|avif QUALITY WARM_UPS COUNT OUT
 * QUALITY is a number, `edge` for the edge's own, or `libvips` for what libvips does when nothing at all is asked of it.
 * Writes the last rendition to OUT and one line of JSON to standard output.
 */

#include "loop.h"
#include "webp.h"

/* As the edge's encoder table says for a transform that names no quality. */
#define JPEG_QUALITY 80
#define WEBP_QUALITY 82
#define WEBP_EFFORT 4
#define AVIF_QUALITY 66
#define AVIF_EFFORT 1

/* Instead of a quality. */
#define EDGE 0
#define LIBVIPS -1

/* The decoder leaves the resampler a factor of two, as its users are told to. */
#define RESAMPLER_FACTOR 2

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

/* `image` in 8 bits, rounded: libvips cuts fractions off, so a half is added first. Takes the reference. */
static VipsImage *
round_to_8_bits(VipsImage *image)
{
	VipsImage *rounded;
	int failed = vips_linear1(image, &rounded, 1, 0.5, "uchar", TRUE, NULL);

	g_object_unref(image);
	return failed ? NULL : rounded;
}

/* As `scale`, with alpha multiplied in meanwhile and numbers kept in 8 bits. */
static VipsImage *
scale_with_alpha(VipsImage *image, int width, int height)
{
	VipsImage *multiplied, *narrow, *scaled, *straight;
	int failed;

	failed = vips_premultiply(image, &multiplied, NULL);
	g_object_unref(image);
	if (failed)
		return NULL;
	narrow = round_to_8_bits(multiplied);
	if (!narrow)
		return NULL;
	scaled = scale(narrow, width, height);
	if (!scaled)
		return NULL;
	failed = vips_unpremultiply(scaled, &straight, NULL);
	g_object_unref(scaled);
	return failed ? NULL : round_to_8_bits(straight);
}

/* As libvips does it by itself. */
static int
save_plainly(VipsImage *image, const char *format, struct bytes *out)
{
	if (strcmp(format, "jpeg") == 0)
		return vips_jpegsave_buffer(image, &out->data, &out->length, NO_METADATA, NULL);
	if (strcmp(format, "webp") == 0)
		return vips_webpsave_buffer(image, &out->data, &out->length, NO_METADATA, NULL);
	return vips_heifsave_buffer(image, &out->data, &out->length,
		"compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1, NO_METADATA, NULL);
}

/* As the edge does it, at `quality` or, if that is EDGE, at its own. */
static int
save(VipsImage *image, const char *format, int quality, struct bytes *out)
{
	if (strcmp(format, "jpeg") == 0)
		return vips_jpegsave_buffer(image, &out->data, &out->length,
			"Q", quality != EDGE ? quality : JPEG_QUALITY, "optimize_coding", TRUE, NO_METADATA, NULL);
	if (strcmp(format, "webp") == 0)
		return vips_webpsave_buffer(image, &out->data, &out->length,
			"Q", quality != EDGE ? quality : WEBP_QUALITY, "effort", WEBP_EFFORT,
			"preset", VIPS_FOREIGN_WEBP_PRESET_PHOTO, NO_METADATA, NULL);
	return vips_heifsave_buffer(image, &out->data, &out->length,
		"compression", VIPS_FOREIGN_HEIF_COMPRESSION_AV1, "Q", quality != EDGE ? quality : AVIF_QUALITY, "bitdepth", 8,
		"effort", AVIF_EFFORT, NO_METADATA, NULL);
}

static int
render(const struct bytes *source, int width, const char *format, int quality, struct bytes *out)
{
	int size[2], height, failed;
	VipsImage *image = load(source, width, size);

	if (!image)
		return -1;
	height = ((long) size[1] * width + size[0] / 2) / size[0];
	image = vips_image_hasalpha(image) ? scale_with_alpha(image, width, height) : scale(image, width, height);
	if (!image)
		return -1;
	failed = quality == LIBVIPS ? save_plainly(image, format, out) : save(image, format, quality, out);
	g_object_unref(image);
	return failed;
}

int
main(int argc, char **argv)
{
	struct bytes source, out = { NULL, 0 };
	const char *allocator, *format;
	long width, quality, warm_ups, count, i;
	double cpu = 0, wall = 0;

	allocator = start(argv[0]);
	if (argc != 8) {
		fprintf(stderr, "usage: ceiling SOURCE WIDTH jpeg|webp|avif QUALITY WARM_UPS COUNT OUT\n");
		return EXIT_FAILURE;
	}
	width = number(argv[2], 1, 8192);
	format = argv[3];
	if (strcmp(argv[4], "edge") == 0)
		quality = EDGE;
	else if (strcmp(argv[4], "libvips") == 0)
		quality = LIBVIPS;
	else
		quality = number(argv[4], 1, 100);
	warm_ups = number(argv[5], 0, COUNT_MAX);
	count = number(argv[6], 1, COUNT_MAX);
	if (strcmp(format, "jpeg") && strcmp(format, "webp") && strcmp(format, "avif")) {
		fprintf(stderr, "ceiling: %s is no format\n", format);
		return EXIT_FAILURE;
	}
	if (!g_file_get_contents(argv[1], (char **) &source.data, &source.length, NULL))
		die("cannot read the source");

	for (i = 0; i < warm_ups + count; i++) {
		if (i == warm_ups) {
			cpu = cpu_seconds();
			wall = wall_seconds();
		}
		g_free(out.data);
		if (render(&source, width, format, quality, &out))
			die("render");
	}
	cpu = cpu_seconds() - cpu;
	wall = wall_seconds() - wall;

	if (strcmp(format, "webp") == 0)
		drop_webp_metadata(&out);
	if (!g_file_set_contents(argv[7], out.data, out.length, NULL))
		die("cannot write the rendition");
	printf("{\"count\":%ld,\"cpu_seconds\":%.6f,\"wall_seconds\":%.6f,\"peak_kib\":%ld,\"libvips\":\"%s\",\"jemalloc\":\"%s\"}\n",
		count, cpu, wall, peak_kib(), vips_version_string(), allocator);
	g_free(out.data);
	g_free(source.data);
	vips_shutdown();
	return EXIT_SUCCESS;
}
