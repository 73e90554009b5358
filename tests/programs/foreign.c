/* A program without the layer that says which span it is in as OpenTelemetry describes it: OTEP 4947 and 4719.
 *
 * With -DLIBRARY it is only the variable, in a library. With -DLOADS it loads that library, whose path is the argument. With
 * -DLINKED it is linked with another implementation of the variable. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
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

/* Two spans of different traces, in pages of their own. */
static struct record first __attribute__((aligned(4096))), second __attribute__((aligned(4096)));

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Sleeps, and returns how long that took. */
static long long slept_ns(long ms)
{
	long long start = now_ns();

	sleep_ms(ms);
	return now_ns() - start;
}

/* In one span, whose record it does not touch meanwhile. Says how long the longest took. */
static void sleeps(int times, long each)
{
	long long ns, longest = 0;

	/* If the record was on a disk, the thread has it back. */
	first.valid = 1;
	set(&first);
	while (times--) {
		ns = slept_ns(each);
		longest = ns > longest ? ns : longest;
	}
	set(NULL);
	printf("%lld ", longest);
}

static void check(int is_right, const char *what)
{
	if (is_right)
		return;
	perror(what);
	exit(1);
}

/* Writes and syncs as many pieces of 64 KiB. */
static void write_pieces(const char *path, int pieces)
{
	static char piece[64 << 10];
	int file = open(path, O_WRONLY | O_CREAT, 0600);

	check(file >= 0, path);
	while (pieces--)
		check(write(file, piece, sizeof(piece)) == sizeof(piece) && !fdatasync(file), path);
	close(file);
}

static void disk(const char *path)
{
	set(&first);
	write_pieces(path, 4);
	set(NULL);
	write_pieces(path, 8);
	set(&second);
	write_pieces(path, 2);
	set(NULL);
}

static struct sockaddr_in address_of(int socket)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	check(!getsockname(socket, (struct sockaddr *)&address, &length), "getsockname");
	return address;
}

static int listener(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int socket_ = socket(AF_INET, SOCK_STREAM, 0);

	check(!bind(socket_, (struct sockaddr *)&any, sizeof(any)) && !listen(socket_, 8), "listen");
	return socket_;
}

static int connect_to(struct sockaddr_in address)
{
	int client = socket(AF_INET, SOCK_STREAM, 0);

	if (!connect(client, (struct sockaddr *)&address, sizeof(address)))
		return client;
	close(client);
	return -1;
}

/* Sends 1000 bytes, and receives 6. */
static void *client(void *address)
{
	char bytes[1000] = {};
	int socket;

	set(&first);
	socket = connect_to(*(struct sockaddr_in *)address);
	check(socket >= 0 && write(socket, bytes, 1000) == 1000, "the client");
	check(recv(socket, bytes, 6, MSG_WAITALL) == 6, "the client");
	close(socket);
	set(NULL);
	return address;
}

static void serve(int listener)
{
	char bytes[1000];
	int socket = accept(listener, NULL, NULL);

	check(socket >= 0, "accept");
	set(&second);
	check(recv(socket, bytes, 1000, MSG_WAITALL) == 1000 && write(socket, bytes, 6) == 6, "the server");
	/* The client closes first. */
	check(read(socket, bytes, 1) == 0, "the server");
	close(socket);
	set(NULL);
}

/* Two connections, the second in no span at its client, and a connect that is refused. */
static void talk(void)
{
	int socket = listener(), other;
	struct sockaddr_in address = address_of(socket);
	pthread_t thread;

	pthread_create(&thread, NULL, client, &address);
	serve(socket);
	pthread_join(thread, NULL);
	other = connect_to(address);
	check(other >= 0, "connect");
	close(other);
	close(socket);
	set(&first);
	check(connect_to(address) < 0, "connect");
	set(NULL);
	printf("%d ", ntohs(address.sin_port));
}

static int ended(pid_t child)
{
	int status;

	check(waitpid(child, &status, 0) == child, "waitpid");
	return status;
}

static pid_t spawn(char *const arguments[])
{
	pid_t child;

	check(!posix_spawnp(&child, arguments[0], NULL, NULL, arguments, environ), arguments[0]);
	return child;
}

/* By fork, and by posix_spawn, which shares the memory until the exec. Says how long a child lived that sleeps. */
static void children(void)
{
	char *const sleeps[] = { "sleep", "0.3", NULL };
	char *const is_killed[] = { "sh", "-c", "kill -9 $$", NULL };
	char *const fails[] = { "sh", "-c", "exit 7", NULL };
	long long start, lived;
	pid_t child;

	set(&first);
	child = fork();
	if (!child)
		_exit(execvp(fails[0], fails));
	check(ended(child) == 7 << 8, "fork");
	/* This one executes nothing. */
	child = fork();
	if (!child)
		_exit(0);
	ended(child);
	set(&second);
	start = now_ns();
	check(!ended(spawn(sleeps)), "sleep");
	lived = now_ns() - start;
	check(ended(spawn(is_killed)) == 9, "kill");
	set(NULL);
	ended(spawn(fails));
	printf("%lld ", lived);
}

/* Says which file it wrote, and how long it slept. */
static void *calls(void *path)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(9) };
	char byte = 0;
	long long slept;
	int file, datagrams = socket(AF_INET, SOCK_DGRAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	set(&first);
	check(open("/nowhere/to/be/found", O_RDONLY) < 0, "open");
	file = open(path, O_RDWR | O_CREAT, 0600);
	check(write(file, &byte, 1) == 1, path);
	check(!connect(datagrams, (struct sockaddr *)&address, sizeof(address)), "connect");
	for (int i = 0; i < 100; i++)
		getppid();
	set(&second);
	getppid();
	slept = slept_ns(20);
	set(NULL);
	getppid();
	close(file);
	close(datagrams);
	printf("%d %lld ", file, slept);
	return path;
}

/* In another thread. */
static void calls_of_thread(char *path)
{
	pthread_t other;

	pthread_create(&other, NULL, calls, path);
	pthread_join(other, NULL);
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
	char line[256];

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
	first = record(0xaa);
	second = record(0xbb);
	memset(second.trace_id, 0x22, 16);
	publish_process();
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		char *argument = strchr(line, ' ');
		pthread_t other;

		line[strcspn(line, "\n")] = 0;
		if (argument)
			*argument++ = 0;
		if (!strcmp(line, "exec")) {
			execv("/proc/self/exe", arguments);
		} else if (!strcmp(line, "disk")) {
			disk(argument);
		} else if (!strcmp(line, "sleeps")) {
			sleeps(10, 100);
		} else if (!strcmp(line, "talk")) {
			talk();
		} else if (!strcmp(line, "children")) {
			children();
		} else if (!strcmp(line, "calls")) {
			calls_of_thread(argument);
		} else if (!strcmp(line, "go")) {
			work(NULL);
			pthread_create(&other, NULL, work, NULL);
			pthread_join(other, NULL);
		} else {
			fprintf(stderr, "unknown command: %s\n", line);
			return 1;
		}
		puts("done");
		fflush(stdout);
	}
	return count > 2 || !arguments;
}
#endif
