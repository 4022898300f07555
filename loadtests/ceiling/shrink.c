/*
 * A JPEG at another width, without loss: for seeing what a decoder that shrinks costs in looks.
 *
 * Usage: shrink SOURCE WIDTH FACTOR OUT.png
 *   FACTOR  how many times WIDTH the decoder must leave to the resampler, at least; 0 decodes every pixel
 */

#include "loop.h"

int
main(int argc, char **argv)
{
	struct bytes source;
	VipsImage *image, *scaled;
	long width, factor;
	int shrink = 8, height, full_width, full_height;

	start(argv[0]);
	if (argc != 5) {
		fprintf(stderr, "usage: shrink SOURCE WIDTH FACTOR OUT.png\n");
		return EXIT_FAILURE;
	}
	width = number(argv[2], 1, 8192);
	factor = number(argv[3], 0, 8);
	if (!g_file_get_contents(argv[1], (char **) &source.data, &source.length, NULL))
		die("the source cannot be read");
	if (vips_jpegload_buffer(source.data, source.length, &image, NULL))
		die("the source cannot be opened");
	full_width = vips_image_get_width(image);
	full_height = vips_image_get_height(image);
	g_object_unref(image);
	height = ((long) full_height * width + full_width / 2) / full_width;
	while (shrink > 1 && (factor == 0 || full_width < width * shrink * factor))
		shrink /= 2;
	if (vips_jpegload_buffer(source.data, source.length, &image, "shrink", shrink,
			"access", VIPS_ACCESS_SEQUENTIAL, NULL) ||
		vips_resize(image, &scaled, (double) width / vips_image_get_width(image),
			"vscale", (double) height / vips_image_get_height(image), NULL) ||
		vips_pngsave(scaled, argv[4], NO_METADATA, NULL))
		die("the picture cannot be made");
	g_object_unref(scaled);
	g_object_unref(image);
	g_free(source.data);
	vips_shutdown();
	return EXIT_SUCCESS;
}
