/*
 * What libvips itself takes for each op of a URL: open, shrink, the op, encode as JPEG, in a loop with nothing around it.
 *
 * Each op is written as a person would who knows libvips well and has only this one picture, which has no transparency.
 * Settings are those of the edge. Must not share code with the edge.
 *
 * Usage: ops SOURCE OVERLAY OP WARM_UPS COUNT OUT
 * Writes the last rendition to OUT and one line of JSON to standard output.
 */

#include <math.h>

#include "loop.h"

#define WIDTH 800
/* As the edge's encoder table says. */
#define JPEG_QUALITY 80
/* The decoder leaves the resampler a factor of two, as the edge does. */
#define RESAMPLER_FACTOR 2

#define CROP_HEIGHT 300
#define PAD_HEIGHT 800
#define BORDER 10
#define RADIUS 40
#define BLOCK 16
#define OVERLAY_OFFSET 10
#define TRIM_TOLERANCE 10.0

static struct bytes source, overlay;

/* The result of an operation in place of what it was made of. */
static VipsImage *
instead(VipsImage *in, VipsImage *out, int failed)
{
	g_object_unref(in);
	if (failed)
		die("an operation failed");
	return out;
}

/* For what reads pixels in another order than they are decoded in. */
static VipsImage *
in_memory(VipsImage *in)
{
	VipsImage *out = vips_image_copy_memory(in);

	return instead(in, out, out == NULL);
}

static VipsImage *
to_8_bits(VipsImage *in)
{
	VipsImage *out;
	int failed = vips_cast_uchar(in, &out, NULL);

	return instead(in, out, failed);
}

static VipsImage *
nothing(VipsImage *in)
{
	return in;
}

static VipsImage *
blur_by(VipsImage *in, double sigma)
{
	VipsImage *out, *memory = in_memory(in);
	int failed = vips_gaussblur(memory, &out, sigma, "min_ampl", 0.1, NULL);

	return instead(memory, out, failed);
}

static VipsImage *
blur(VipsImage *in)
{
	return blur_by(in, 2);
}

static VipsImage *
wide_blur(VipsImage *in)
{
	return blur_by(in, 20);
}

static VipsImage *
sharpen(VipsImage *in)
{
	VipsImage *out, *memory = in_memory(in);
	int failed = vips_sharpen(memory, &out, "sigma", 1.0, NULL);

	return instead(memory, out, failed);
}

static VipsImage *
brightness(VipsImage *in)
{
	VipsImage *out;
	int failed = vips_linear1(in, &out, 1.2, 0, "uchar", TRUE, NULL);

	return instead(in, out, failed);
}

static VipsImage *
contrast(VipsImage *in)
{
	VipsImage *out;
	int failed = vips_linear1(in, &out, 1.2, -0.1 * 255, "uchar", TRUE, NULL);

	return instead(in, out, failed);
}

static VipsImage *
gamma_curve(VipsImage *in)
{
	VipsImage *out;
	int failed = vips_gamma(in, &out, "exponent", 1 / 1.5, NULL);

	return instead(in, out, failed);
}

static VipsImage *
mix(VipsImage *in, int rows, const double *numbers)
{
	VipsImage *matrix, *out;
	int failed;

	matrix = vips_image_new_matrix_from_array(3, rows, numbers, 3 * rows);
	if (!matrix)
		die("no matrix");
	failed = vips_recomb(in, &out, matrix, NULL);
	g_object_unref(matrix);
	return to_8_bits(instead(in, out, failed));
}

static VipsImage *
saturation(VipsImage *in)
{
	static const double numbers[] = { 1.3937, -0.3576, -0.0361, -0.1063, 1.1424, -0.0361, -0.1063, -0.3576, 1.4639 };

	return mix(in, 3, numbers);
}

static VipsImage *
sepia(VipsImage *in)
{
	static const double numbers[] = { 0.393, 0.769, 0.189, 0.349, 0.686, 0.168, 0.272, 0.534, 0.131 };

	return mix(in, 3, numbers);
}

static VipsImage *
greyscale(VipsImage *in)
{
	static const double numbers[] = { 0.2126, 0.7152, 0.0722 };
	VipsImage *out, *grey = mix(in, 1, numbers);
	int failed = vips_copy(grey, &out, "interpretation", VIPS_INTERPRETATION_B_W, NULL);

	return instead(grey, out, failed);
}

static VipsImage *
invert(VipsImage *in)
{
	VipsImage *out;
	int failed = vips_invert(in, &out, NULL);

	return instead(in, out, failed);
}

static VipsImage *
pixelate(VipsImage *in)
{
	VipsImage *out, *memory = in_memory(in);
	int width = vips_image_get_width(memory), height = vips_image_get_height(memory), failed;

	failed = vips_shrink(memory, &out, BLOCK, BLOCK, "ceil", TRUE, NULL);
	memory = instead(memory, out, failed);
	failed = vips_zoom(memory, &out, BLOCK, BLOCK, NULL);
	memory = instead(memory, out, failed);
	failed = vips_extract_area(memory, &out, 0, 0, width, height, NULL);
	return instead(memory, out, failed);
}

static VipsImage *
flip(VipsImage *in)
{
	VipsImage *out;
	int failed = vips_flip(in, &out, VIPS_DIRECTION_HORIZONTAL, NULL);

	return instead(in, out, failed);
}

static VipsImage *
quarter_turn(VipsImage *in)
{
	VipsImage *out, *memory = in_memory(in);
	int failed = vips_rot(memory, &out, VIPS_ANGLE_D90, NULL);

	return instead(memory, out, failed);
}

/* Corners are white. */
static VipsImage *
turn(VipsImage *in)
{
	static const double white[] = { 255, 255, 255 };
	VipsArrayDouble *background = vips_array_double_new(white, 3);
	VipsInterpolate *bicubic = vips_interpolate_new("bicubic");
	VipsImage *out, *memory = in_memory(in);
	int failed = vips_rotate(memory, &out, 30, "interpolate", bicubic, "background", background, NULL);

	vips_area_unref(VIPS_AREA(background));
	g_object_unref(bicubic);
	return instead(memory, out, failed);
}

static VipsImage *
crop(VipsImage *in)
{
	VipsImage *out;
	int top = (vips_image_get_height(in) - CROP_HEIGHT) / 2;
	int failed = vips_extract_area(in, &out, 0, top, WIDTH, CROP_HEIGHT, NULL);

	return instead(in, out, failed);
}

static VipsImage *
content_crop(VipsImage *in, VipsInteresting interesting)
{
	VipsImage *out, *memory = in_memory(in);
	int failed = vips_smartcrop(memory, &out, WIDTH, CROP_HEIGHT, "interesting", interesting, NULL);

	return instead(memory, out, failed);
}

static VipsImage *
attention(VipsImage *in)
{
	return content_crop(in, VIPS_INTERESTING_ATTENTION);
}

static VipsImage *
entropy(VipsImage *in)
{
	return content_crop(in, VIPS_INTERESTING_ENTROPY);
}

/* `in` on a canvas of one colour. */
static VipsImage *
embed(VipsImage *in, int left, int top, int height, const double *colour)
{
	VipsArrayDouble *background = vips_array_double_new(colour, 3);
	VipsImage *out;
	int failed = vips_embed(in, &out, left, top, WIDTH, height, "extend", VIPS_EXTEND_BACKGROUND,
		"background", background, NULL);

	vips_area_unref(VIPS_AREA(background));
	return instead(in, out, failed);
}

static VipsImage *
pad(VipsImage *in)
{
	static const double white[] = { 255, 255, 255 };

	return embed(in, 0, (PAD_HEIGHT - vips_image_get_height(in)) / 2, PAD_HEIGHT, white);
}

static VipsImage *
border(VipsImage *in)
{
	static const double red[] = { 255, 0, 0 };
	VipsImage *out;
	int height = vips_image_get_height(in);
	int failed = vips_extract_area(in, &out, BORDER, BORDER, WIDTH - 2 * BORDER, height - 2 * BORDER, NULL);

	return embed(instead(in, out, failed), BORDER, BORDER, height, red);
}

/* How much of each pixel lies inside round corners. */
static VipsImage *
round_mask(int width, int height)
{
	unsigned char *mask = g_malloc((size_t) width * height);
	VipsImage *image;
	int x, y;

	memset(mask, 255, (size_t) width * height);
	for (y = 0; y < RADIUS; y++)
		for (x = 0; x < RADIUS; x++) {
			double inside = RADIUS - hypot(RADIUS - (x + 0.5), RADIUS - (y + 0.5)) + 0.5;
			unsigned char part = (unsigned char) rint(VIPS_CLIP(0, inside, 1) * 255);

			mask[y * width + x] = part;
			mask[y * width + width - 1 - x] = part;
			mask[(height - 1 - y) * width + x] = part;
			mask[(height - 1 - y) * width + width - 1 - x] = part;
		}
	image = vips_image_new_from_memory_copy(mask, (size_t) width * height, width, height, 1, VIPS_FORMAT_UCHAR);
	g_free(mask);
	if (!image)
		die("no mask");
	return image;
}

/* Round corners on white. */
static VipsImage *
radius(VipsImage *in)
{
	static const double white[] = { 255, 255, 255 };
	VipsArrayDouble *background = vips_array_double_new(white, 3);
	VipsImage *mask = round_mask(vips_image_get_width(in), vips_image_get_height(in)), *joined, *out;
	int failed = vips_bandjoin2(in, mask, &joined, NULL);

	g_object_unref(mask);
	joined = instead(in, joined, failed);
	failed = vips_flatten(joined, &out, "background", background, NULL);
	vips_area_unref(VIPS_AREA(background));
	return instead(joined, out, failed);
}

static VipsImage *
lay_over(VipsImage *in)
{
	VipsImage *layer, *out;
	int failed;

	layer = vips_image_new_from_buffer(overlay.data, overlay.length, "", NULL);
	if (!layer)
		die("the overlay cannot be opened");
	failed = vips_composite2(in, layer, &out, VIPS_BLEND_MODE_OVER, "x", OVERLAY_OFFSET, "y", OVERLAY_OFFSET, NULL);
	g_object_unref(layer);
	in = instead(in, out, failed);
	failed = vips_extract_band(in, &out, 0, "n", 3, NULL);
	return to_8_bits(instead(in, out, failed));
}

/* The whole picture. */
static void
whole(int width, int height, VipsRect *part)
{
	*part = (VipsRect) { 0, 0, width, height };
}

static void
middle(int width, int height, VipsRect *part)
{
	*part = (VipsRect) { width / 4, height / 4, width / 2, height / 2 };
}

/* What is not of the colour of the top left pixel; every pixel is decoded for that. */
static void
inside(int width, int height, VipsRect *part)
{
	VipsImage *image = vips_image_new_from_buffer(source.data, source.length, "",
		"access", VIPS_ACCESS_SEQUENTIAL, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
	VipsArrayDouble *background;
	double *corner;
	int count;

	if (!image)
		die("the source cannot be opened");
	image = in_memory(image);
	if (vips_getpoint(image, &corner, &count, 0, 0, NULL))
		die("no corner");
	background = vips_array_double_new(corner, count);
	g_free(corner);
	if (vips_find_trim(image, &part->left, &part->top, &part->width, &part->height,
			"threshold", TRIM_TOLERANCE, "background", background, NULL))
		die("no border");
	vips_area_unref(VIPS_AREA(background));
	g_object_unref(image);
	if (part->width == 0)
		whole(width, height, part);
}

static const struct op {
	const char *name;
	void (*part)(int width, int height, VipsRect *part);
	VipsImage *(*work)(VipsImage *in);
} ops[] = {
	{ "plain", whole, nothing },
	{ "rect", middle, nothing },
	{ "trim", inside, nothing },
	{ "crop", whole, crop },
	{ "attention", whole, attention },
	{ "entropy", whole, entropy },
	{ "pad", whole, pad },
	{ "flip", whole, flip },
	{ "quarter-turn", whole, quarter_turn },
	{ "turn", whole, turn },
	{ "brightness", whole, brightness },
	{ "contrast", whole, contrast },
	{ "gamma", whole, gamma_curve },
	{ "saturation", whole, saturation },
	{ "greyscale", whole, greyscale },
	{ "sepia", whole, sepia },
	{ "invert", whole, invert },
	{ "pixelate", whole, pixelate },
	{ "blur", whole, blur },
	{ "wide-blur", whole, wide_blur },
	{ "sharpen", whole, sharpen },
	{ "border", whole, border },
	{ "radius", whole, radius },
	{ "overlay", whole, lay_over },
};

/* The part of the source that `op` uses, at WIDTH. */
static VipsImage *
resized(const struct op *op)
{
	VipsImage *header, *image, *out;
	VipsRect part;
	int shrink = 8, failed, height;

	header = vips_image_new_from_buffer(source.data, source.length, "",
		"access", VIPS_ACCESS_SEQUENTIAL, "fail_on", VIPS_FAIL_ON_ERROR, NULL);
	if (!header)
		die("the source cannot be opened");
	op->part(vips_image_get_width(header), vips_image_get_height(header), &part);
	g_object_unref(header);
	while (shrink > 1 && part.width < WIDTH * shrink * RESAMPLER_FACTOR)
		shrink /= 2;
	if (vips_jpegload_buffer(source.data, source.length, &image, "shrink", shrink,
			"access", VIPS_ACCESS_SEQUENTIAL, "fail_on", VIPS_FAIL_ON_ERROR, NULL))
		die("the source cannot be opened");
	failed = vips_extract_area(image, &out, part.left / shrink, part.top / shrink,
		part.width / shrink, part.height / shrink, NULL);
	image = instead(image, out, failed);
	height = ((long) part.height * WIDTH + part.width / 2) / part.width;
	failed = vips_resize(image, &out, (double) WIDTH / vips_image_get_width(image),
		"vscale", (double) height / vips_image_get_height(image), NULL);
	return instead(image, out, failed);
}

int
main(int argc, char **argv)
{
	const struct op *op = NULL;
	struct bytes out = { NULL, 0 };
	double cpu = 0, wall = 0;
	long warm_ups, count, i;

	start(argv[0]);
	if (argc != 7) {
		fprintf(stderr, "usage: ops SOURCE OVERLAY OP WARM_UPS COUNT OUT\n");
		return EXIT_FAILURE;
	}
	for (i = 0; i < (long) G_N_ELEMENTS(ops); i++)
		if (!strcmp(ops[i].name, argv[3]))
			op = &ops[i];
	if (!op) {
		fprintf(stderr, "ops: %s is no op\n", argv[3]);
		return EXIT_FAILURE;
	}
	warm_ups = number(argv[4], 0, COUNT_MAX);
	count = number(argv[5], 1, COUNT_MAX);
	if (!g_file_get_contents(argv[1], (char **) &source.data, &source.length, NULL) ||
		!g_file_get_contents(argv[2], (char **) &overlay.data, &overlay.length, NULL))
		die("a picture cannot be read");

	for (i = 0; i < warm_ups + count; i++) {
		VipsImage *image;

		if (i == warm_ups) {
			cpu = cpu_seconds();
			wall = wall_seconds();
		}
		g_free(out.data);
		image = op->work(resized(op));
		if (vips_jpegsave_buffer(image, &out.data, &out.length,
				"Q", JPEG_QUALITY, "optimize_coding", TRUE, NO_METADATA, NULL))
			die("the picture cannot be encoded");
		g_object_unref(image);
	}
	cpu = cpu_seconds() - cpu;
	wall = wall_seconds() - wall;

	if (!g_file_set_contents(argv[6], out.data, out.length, NULL))
		die("the rendition cannot be written");
	printf("{\"count\":%ld,\"cpu_seconds\":%.6f,\"wall_seconds\":%.6f}\n", count, cpu, wall);
	g_free(out.data);
	g_free(source.data);
	g_free(overlay.data);
	vips_shutdown();
	return EXIT_SUCCESS;
}
