/* A program without the layer that says which span it is in as OpenTelemetry describes it: OTEP 4947 and 4719.
 *
 * With -DLIBRARY it is only the variable, in a library. With -DLOADS it loads that library, whose path is the argument. With
 * -DLINKED it is linked with another implementation of the variable. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef LINKED
void set_context(void *record);
#elif !defined(LOADS)
__attribute__((visibility("default"))) __thread void *otel_thread_ctx_v1;

__attribute__((visibility("default"))) void set_context(void *record)
{
	otel_thread_ctx_v1 = record;
}
#endif

#ifndef LIBRARY
static void (*set)(void *record);

struct record {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t valid;
	uint8_t flags;
	uint16_t attributes;
};

/* The ids consist of this byte. */
static struct record record(uint8_t id)
{
	struct record record = { .valid = 1, .flags = 1 };

	memset(record.trace_id, 0x11, 16);
	memset(record.span_id, id, 8);
	return record;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static void *work(void *unused)
{
	struct record outer = record(0xaa), inner = record(0xbb), invalid = record(0xcc), unsampled = record(0xdd);

	sleep_ms(1);
	set(&outer);
	sleep_ms(20);
	set(&inner);
	sleep_ms(40);
	set(&outer);
	sleep_ms(60);
	set(NULL);
	sleep_ms(80);
	invalid.valid = 0;
	set(&invalid);
	sleep_ms(80);
	unsampled.flags = 2;
	set(&unsampled);
	sleep_ms(80);
	set(NULL);
	return unused;
}

/* A message of protobuf with a field of fewer than 128 bytes. */
static size_t field(uint8_t *out, int number, const void *bytes, size_t length)
{
	out[0] = number << 3 | 2;
	out[1] = length;
	memcpy(out + 2, bytes, length);
	return length + 2;
}

static size_t attribute(uint8_t *out, int number, const char *key, const char *value)
{
	uint8_t any[128], pair[128];
	size_t length = field(any, 1, value, strlen(value));
	size_t at = field(pair, 1, key, strlen(key));

	at += field(pair + at, 2, any, length);
	return field(out, number, pair, at);
}

static void publish_process(void)
{
	static uint8_t context[512];
	uint8_t resource[256];
	size_t length = attribute(resource, 1, "service.name", "in C");
	uint64_t now = 1;
	uint32_t numbers[2] = { 2 };
	int file = memfd_create("OTEL_CTX", MFD_CLOEXEC);
	uint8_t *header;
	const void *address = context;

	length += attribute(resource + length, 1, "deployment.environment.name", "test");
	numbers[1] = field(context, 1, resource, length);
	numbers[1] += attribute(context + numbers[1], 2, "threadlocal.schema_version", "tlsdesc_v1_dev");
	if (file < 0 || ftruncate(file, 4096))
		exit(1);
	header = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	memcpy(header, "OTEL_CTX", 8);
	memcpy(header + 8, numbers, 8);
	memcpy(header + 24, &address, 8);
	memcpy(header + 16, &now, 8);
}

int main(int count, char **arguments)
{
	char line[16];

#ifdef LOADS
	void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW) : NULL;

	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	set = (void (*)(void *))dlsym(library, "set_context");
#else
	set = set_context;
#endif
	set(NULL);
	publish_process();
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		pthread_t other;

		if (!strcmp(line, "exec\n"))
			execv("/proc/self/exe", arguments);
		work(NULL);
		pthread_create(&other, NULL, work, NULL);
		pthread_join(other, NULL);
		puts("done");
		fflush(stdout);
	}
	return count > 2 || !arguments;
}
#endif
