/*
 * transfer.many.received
 *
 * Build: gcc -m32 -nostdlib -static -o test FILE.c
 *
 * ./test exits 0 if every answer is as documented, 1 with a line for each test that gets another one, and 4 if
 * nothing is wrong but a test could not be prepared. The tests are at the end.
 */
typedef unsigned int u32;
typedef unsigned char u8;

enum {
	AF_INET = 2, IPPROTO_IP = 0, MSG_NOSIGNAL = 0x4000, NR_bind = 361, NR_connect = 362,
	NR_recvmmsg_time64 = 417, NR_sendto = 369, NR_socket = 359, SOCK_DGRAM = 2,
};

/* What the calls point to. It is poisoned before each test. */
static u8 memory[9 * 4096] __attribute__((aligned(4096)));
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
 * transfer.many.received, by direct
 *
 * recvmmsg receives a message into each entry of its array, returns how many, and writes msg_len, msg_flags and the
 *   rest as recvmsg does; an entry behind them stays as it was.
 *
 * Source: recvmmsg(2); do_recvmmsg DESCRIPTION, RETURN VALUE
 */
static void transfer_many_received_direct(void)
{
	u32 fd0 = need(syscall(NR_socket, AF_INET, SOCK_DGRAM, IPPROTO_IP));
	u32 fd1 = need(syscall(NR_socket, AF_INET, SOCK_DGRAM, IPPROTO_IP));
	put(M(0xfe0),
		0x02, 0x00, 0x13, 0x89, 0x7f, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5);	/* {AF_INET 127.0.0.1:5001 leftover=16} */
	needs(0, syscall(NR_bind, fd1, M(0xfe0), 16));
	needs(0, syscall(NR_connect, fd0, M(0xfe0), 16));
	put_words(M(0x8020), M(0x3ffa), 6, M(0x4ffa), 6, M(0x5ffa), 6, M(0x6ffa), 6);
	put_words(M(0x7f80), 0, 0, M(0x8020), 1, 0, 0, 0xa5a5a5a5, 0xa5a5a5a5, 0, 0, M(0x8028), 1, 0, 0, 0xa5a5a5a5, 0xa5a5a5a5, 0, 0, M(0x8030), 1, 0, 0, 0xa5a5a5a5, 0xa5a5a5a5, 0, 0, M(0x8038), 1, 0, 0, 0xa5a5a5a5, 0xa5a5a5a5);
	need(syscall(NR_sendto, fd0, M(0x1ffb), 5, MSG_NOSIGNAL, 0, 0));
	need(syscall(NR_sendto, fd0, M(0x1ff0), 16, MSG_NOSIGNAL, 0, 0));
	need(syscall(NR_sendto, fd0, M(0x2000), 0, MSG_NOSIGNAL, 0, 0));
	expect(3, "kind=udp op=recvmmsg_time64", syscall(NR_recvmmsg_time64, fd1, M(0x7f80), 3, 0, 0));
}

void start(void)
{
	static struct { const char *id, *source; void (*test)(void); } tests[] = {
		{ "transfer.many.received",
		  "recvmmsg(2); do_recvmmsg DESCRIPTION, RETURN VALUE",
		  transfer_many_received_direct },
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
