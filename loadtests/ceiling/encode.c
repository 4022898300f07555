/*
 * What one encoder costs with some settings: a picture out of a file, encoded again and again from memory.
 *
 * The settings are text, as libvips' own command line has them, so that a candidate is a line in a table and no code.
 *
 * Usage: encode PICTURE SAVER WARM_UPS COUNT OUT
 *   PICTURE  a file, with load options if it needs any: moving.webp[n=-1]
 *   SAVER    an ending with save options: .webp[Q=79,effort=4]
 * Writes the last result to OUT and one line of JSON to standard output.
 */

#include "loop.h"
#include "webp.h"

int
main(int argc, char **argv)
{
	VipsImage *lazy, *picture;
	struct bytes out = { NULL, 0 };
	double cpu = 0, wall = 0;
	long warm_ups, count, i;

	start(argv[0]);
	if (argc != 6) {
		fprintf(stderr, "usage: encode PICTURE SAVER WARM_UPS COUNT OUT\n");
		return EXIT_FAILURE;
	}
	warm_ups = number(argv[3], 0, COUNT_MAX);
	count = number(argv[4], 1, COUNT_MAX);
	lazy = vips_image_new_from_file(argv[1], NULL);
	if (!lazy)
		die("the picture cannot be opened");
	picture = vips_image_copy_memory(lazy);
	if (!picture)
		die("the picture cannot be decoded");
	g_object_unref(lazy);

	for (i = 0; i < warm_ups + count; i++) {
		if (i == warm_ups) {
			cpu = cpu_seconds();
			wall = wall_seconds();
		}
		g_free(out.data);
		if (vips_image_write_to_buffer(picture, argv[2], &out.data, &out.length, NO_METADATA, NULL))
			die("the picture cannot be encoded");
	}
	cpu = cpu_seconds() - cpu;
	wall = wall_seconds() - wall;

	if (g_str_has_prefix(argv[2], ".webp"))
		drop_webp_metadata(&out);
	if (!g_file_set_contents(argv[5], out.data, out.length, NULL))
		die("the result cannot be written");
	printf("{\"count\":%ld,\"cpu_seconds\":%.6f,\"wall_seconds\":%.6f}\n", count, cpu, wall);
	g_free(out.data);
	g_object_unref(picture);
	vips_shutdown();
	return EXIT_SUCCESS;
}
