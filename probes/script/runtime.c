typedef unsigned int u32;
typedef unsigned char u8;

@CONSTANTS@

/* What the calls point to. It is poisoned before each test. */
static u8 memory[@SIZE@] __attribute__((aligned(4096)));
#define M(offset) ((u32)memory + (offset))

/* One call by int $0x80: eax, ebx, ecx, edx, esi, edi, ebp. */
int enter(const u32 registers[7]);
asm("enter: push %ebx; push %esi; push %edi; push %ebp; mov 20(%esp), %ebp\n"
    "mov (%ebp), %eax; mov 4(%ebp), %ebx; mov 8(%ebp), %ecx; mov 12(%ebp), %edx\n"
    "mov 16(%ebp), %esi; mov 20(%ebp), %edi; mov 24(%ebp), %ebp; int $0x80\n"
    "pop %ebp; pop %edi; pop %esi; pop %ebx; ret");
#define syscall(...) enter((u32[7]){ __VA_ARGS__ })

//@ socketcall
/* socketcall(2): the words lie at the end of a page. */
static u32 words_end;

#define socketcall(operation, ...) \
	with_words(operation, (u32[]){ __VA_ARGS__ }, sizeof((u32[]){ __VA_ARGS__ }) / 4)

static int with_words(u32 operation, const u32 *words, u32 count)
{
	u32 *array = (u32 *)words_end - count;

	for (u32 i = 0; i < count; i++)
		array[i] = words[i];
	return syscall(102, operation, (u32)array);
}
//@

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

//@ protocol
/* The test is for a kernel that has a protocol, or lacks it. Where the list cannot be read the test runs. */
static void protocol(const char *name, int wanted)
{
	static char list[16384];
	int size = 1, more, there = 0, fd = syscall(5, (u32)"/proc/net/protocols");

	if (fd < 0)
		return;
	list[0] = '\n';
	while ((more = syscall(3, fd, (u32)list + size, sizeof(list) - 1 - size)) > 0)
		size += more;
	syscall(6, fd);
	for (int start = 0; start < size; start++) {
		int same = 0;

		while (name[same] && name[same] == list[start + 1 + same])
			same++;
		there |= list[start] == '\n' && !name[same] && list[start + 1 + same] == ' ';
	}
	if (there == wanted)
		return;
	at("", wanted ? "the kernel lacks the protocol " : "the kernel has the protocol ");
	begin_line();
	say(name);
	end_line(4);
}
//@

//@ put put_words store load
static void copy(u32 address, const void *bytes, u32 size)
{
	for (u32 i = 0; i < size; i++)
		((volatile u8 *)address)[i] = ((const u8 *)bytes)[i];
}

/* Static: gcc would make an array of many zeros on the stack by memset, which is in no library here. */
#define put(address, ...) do { static const u8 data[] = { __VA_ARGS__ }; copy(address, data, sizeof(data)); } while (0)
#define put_words(address, ...) copy(address, (u32[]){ __VA_ARGS__ }, sizeof((u32[]){ __VA_ARGS__ }))
//@

static void fill(u32 address, u8 byte, u32 size)
{
	for (u32 i = 0; i < size; i++)
		((volatile u8 *)address)[i] = byte;
}

//@ store
static void store(u32 address, u32 value, u32 size)
{
	copy(address, &value, size);
}
//@

//@ load
static u32 load(u32 address, u32 size)
{
	u32 value = 0;

	copy((u32)&value, (void *)address, size);
	return value;
}
//@

//@ compare
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
//@

//@ unwritten
static void unwritten(const char *name, u32 address, u32 size)
{
	now->name = name;
	for (u32 i = 0; i < size; i++)
		if (((u8 *)address)[i] != 0xa5) {
			begin_line();
			say(" wrote more than it reports");
			end_line(1);
		}
}
//@

/* A network of its own with its loopback link up@DIRECTORY_TOO@, as far as that can be had. */
static void surroundings(void)
{
	static u32 udp[3] = { 2, 2, 0 };
	static struct { char name[16]; u32 flags, rest[3]; } lo = { "lo", 1 };
@NETWORK@	int fd = syscall(102, 1, (u32)udp);

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
