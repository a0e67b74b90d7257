/*
 * socket.fresh.packet-options
 *
 * Build: gcc -m32 -nostdlib -static -o test FILE.c
 *
 * ./test exits 0 if every answer is as documented, 1 with a line for each test that gets another one, and 4 if
 * nothing is wrong but a test could not be prepared. The tests are at the end.
 */
typedef unsigned int u32;
typedef unsigned char u8;

enum {
	AF_PACKET = 17, NR_getsockopt = 365, NR_socket = 359, PACKET_AUXDATA = 8, SOCK_RAW = 3, SOL_PACKET = 263,
};

/* What the calls point to. It is poisoned before each test. */
static u8 memory[2 * 4096] __attribute__((aligned(4096)));
#define M(offset) ((u32)memory + (offset))

/* One call by int $0x80: eax, ebx, ecx, edx, esi, edi, ebp. */
int enter(const u32 registers[7]);
asm("enter: push %ebx; push %esi; push %edi; push %ebp; mov 20(%esp), %ebp\n"
    "mov (%ebp), %eax; mov 4(%ebp), %ebx; mov 8(%ebp), %ecx; mov 12(%ebp), %edx\n"
    "mov 16(%ebp), %esi; mov 20(%ebp), %edi; mov 24(%ebp), %ebp; int $0x80\n"
    "pop %ebp; pop %edi; pop %esi; pop %ebx; ret");
#define syscall(...) enter((u32[7]){ __VA_ARGS__ })

/* The test that runs, its current check and call; shared with the process that waits for it. */
static struct state {
	const char *id, *source, *name, *call;
	int result, said, ended;
} *now;

/* A copy of standard output: a test may close that, or have a socket of its number. */
static int out = 1;

static void say(const char *text)
{
	u32 size = 0;

	while (text[size])
		size++;
	syscall(4, out, (u32)text, size);
}

static void say_number(int value)
{
	char text[12], *at = text + 11;
	u32 left = value < 0 ? -(u32)value : value;

	*at = 0;
	do
		*--at = '0' + left % 10;
	while (left /= 10);
	if (value < 0)
		*--at = '-';
	say(at);
}

static void begin_line(void)
{
	now->said = 1;
	say(now->id);
	if (now->name[0]) {
		say(" [");
		say(now->name);
		say("]");
	}
	say(": ");
	say(now->call);
}

static void end_text(void)
{
	say(" (");
	say(now->source);
	say(")\n");
}

/* Ends the line with the source, and the test: 1 if an answer is wrong, 4 if the test cannot be prepared. */
static void end_line(int status)
{
	end_text();
	syscall(1, status);
}

static void fail(int value, const char *text, int status)
{
	begin_line();
	say(" = ");
	say_number(now->result);
	say(status == 4 ? ", but the test needs " : ", expected ");
	if (text[0] == '-') {
		say_number(value);
		say(" ");
		text++;
	}
	say(text);
	end_line(status);
}

static int is(int ok, int value, const char *text, int status)
{
	if (!ok)
		fail(value, text, status);
	return now->result;
}

static void at(const char *name, const char *call)
{
	now->name = name;
	now->call = call;
}

#define make(call) (at(now->name, #call), now->result = (call))
#define also(value, check) (now->name = (check), is(now->result == (int)(value), value, #value, 1))
#define no_more_than_0(check) (now->name = (check), is(now->result <= 0, 0, "0 or an error", 1))
/* A documented answer: that of a check, of set-up, and what makes the test possible at all. */
#define expect(value, check, call) (at(check, #call), now->result = (call), is(now->result == (int)(value), value, #value, 1))
#define need(call) (at("in set-up", #call), now->result = (call), is((u32)now->result < -4095u, 0, "success", 1))
#define needs(value, call) (at("in set-up", #call), now->result = (call), is(now->result == (int)(value), value, #value, 1))
#define prepare(call) (at("", #call), now->result = (call), is((u32)now->result < -4095u, 0, "success", 4))

static void copy(u32 address, const void *bytes, u32 size)
{
	for (u32 i = 0; i < size; i++)
		((volatile u8 *)address)[i] = ((const u8 *)bytes)[i];
}

#define put(address, ...) copy(address, (u8[]){ __VA_ARGS__ }, sizeof((u8[]){ __VA_ARGS__ }))
#define put_words(address, ...) copy(address, (u32[]){ __VA_ARGS__ }, sizeof((u32[]){ __VA_ARGS__ }))

static void fill(u32 address, u8 byte, u32 size)
{
	for (u32 i = 0; i < size; i++)
		((volatile u8 *)address)[i] = byte;
}

static void say_bytes(const u8 *bytes, u32 size)
{
	for (u32 i = 0; i < size && i < 64; i++) {
		char text[] = { ' ', "0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15], 0 };

		say(text);
	}
}

/* What the last call wrote. */
#define compare(name, address, ...) \
	compare_with(name, (u8 *)address, (u8[]){ __VA_ARGS__ }, sizeof((u8[]){ __VA_ARGS__ }))

static void compare_with(const char *name, const u8 *wrote, const u8 *expected, u32 size)
{
	now->name = name;
	for (u32 i = 0; i < size; i++)
		if (wrote[i] != expected[i]) {
			begin_line();
			say(" wrote");
			say_bytes(wrote, size);
			say(", expected");
			say_bytes(expected, size);
			end_line(1);
		}
}

/* A network of its own with its loopback link up, as far as that can be had. */
static void surroundings(void)
{
	static u32 udp[3] = { 2, 2, 0 };
	static struct { char name[16]; u32 flags, rest[3]; } lo = { "lo", 1 };
	int network = syscall(310, 0x50000000);            /* unshare(CLONE_NEWUSER | CLONE_NEWNET) */

	if (network != 0)
		network = syscall(310, 0x40000000);
	int fd = syscall(102, 1, (u32)udp);

	syscall(54, fd, 0x8914, (u32)&lo);
	syscall(6, fd);
}

/* Runs a test in a child, and returns its status; a call may end the child, or not return. */
static int run(const char *id, const char *source, void (*test)(void))
{
	int status = 0, waited, child;

	*now = (struct state){ id, source, "", "", 0, 0, 0 };
	child = syscall(2);
	if (child == 0) {
		syscall(27, 30);
		surroundings();
		fill(M(0), 0xa5, sizeof(memory));
		test();
		now->ended = 1;
		syscall(1, 0);
	}
	waited = child;
	while (child > 0 && (waited = syscall(114, child, (u32)&status)) == -4)
		;
	if (child < 0 || waited != child) {
		at("", child < 0 ? "fork()" : "wait4()");
		now->result = waited;
		begin_line();
		say(" = ");
		say_number(waited);
		say(", but the test needs a child");
		end_text();
		return 4;
	}
	if (!now->said && (status || !now->ended)) {
		int signal = status & 0x7f;

		begin_line();
		if (signal == 14) {
			say(" does not return");
		} else {
			say(signal ? " ends its process by signal " : " ends its process with status ");
			say_number(signal ? signal : status >> 8 & 0xff);
		}
		end_text();
		return 1;
	}
	/* A signal may also end it while it says that an answer is wrong. */
	return status & 0x7f ? 1 : status >> 8 & 0xff;
}

/*
 * socket.fresh.packet-options, by direct
 *
 * The options of SOL_PACKET in a fresh socket are 0, and so are the counters of PACKET_STATISTICS.
 *
 * Source: packet(7) Packet socket options; packet_getsockopt
 */
static void socket_fresh_packet_options_direct(void)
{
	u32 fd0 = need(syscall(NR_socket, AF_PACKET, SOCK_RAW, 0));
	put(M(0x1000), 0x04, 0x00, 0x00, 0x00);
	expect(0, "kind=packet option=PACKET_AUXDATA", syscall(NR_getsockopt, fd0, SOL_PACKET, PACKET_AUXDATA, M(0xffc), M(0x1000)));
	also(0, "kind=packet option=PACKET_AUXDATA");
	compare("kind=packet option=PACKET_AUXDATA", M(0xffc), 0x00, 0x00, 0x00, 0x00);
}

void start(void)
{
	static struct { const char *id, *source; void (*test)(void); } tests[] = {
		{ "socket.fresh.packet-options",
		  "packet(7) Packet socket options; packet_getsockopt",
		  socket_fresh_packet_options_direct },
	};
	int failed = 0, unprepared = 0, copy = syscall(55, 1, 0, 900);  /* fcntl: F_DUPFD */

	out = copy < 0 ? 1 : copy;
	syscall(48, 17);                                               /* signal: SIGCHLD is not ignored */
	now = (struct state *)syscall(192, 0, 4096, 3, 0x21, -1);      /* mmap2: shared memory */
	for (u32 i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		int status = run(tests[i].id, tests[i].source, tests[i].test);

		failed |= status != 0 && status != 4;
		unprepared |= status == 4;
	}
	syscall(1, failed ? 1 : unprepared ? 4 : 0);
}

asm(".globl _start; _start: and $-16, %esp; call start");
