/* The load generator: many TCP connections to one server, one message outstanding on each. With --udp,
 * connected UDP sockets and one datagram on each; one that is lost is a failure (silence).
 *
 * It opens its connections, proves each one with a first message there and back, and says so. Then it
 * obeys its standard input, a line for each measured window, and exits at the end of it:
 *
 *     seconds 0.5        send for half a second, then wait for the replies still under way
 *     messages 10000     send exactly so many messages
 *
 * The server echoes, unless `--reply` says how many bytes answer a message: then they are counted, not
 * compared, and those that come in bulk are not even copied. Three ways to send:
 *
 *     (plain)            a connection's next message follows the reply at once
 *     --churn            each message has a connection of its own, which is closed after the reply
 *     --rate N           N messages a second over all connections, by the clock. A message that finds its
 *                        connection busy goes out late, but its time counts from when it was due. The
 *                        result then has a histogram: pairs of nanoseconds (at most so many) and messages
 *
 * Every window starts and ends with nothing under way and the server asleep, so that the server's CPU
 * clock, read here at both ends, holds the cost of exactly the messages of that window: the kernel
 * brings the clock of a running process up to date only now and then, that of a sleeping one is exact.
 *
 * Results are lines of JSON on standard output. Anything unexpected (a wrong byte, a connection that
 * ends, silence) is one line on standard error and exit status 1.
 *
 * One thread. Linux: epoll, and the CPU clock of another process (clock_getcpuclockid(3)).
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"

enum {
    BATCH = 256,         /* events taken in one turn */
    OPENING_LIMIT = 64,  /* connections being opened at once: below any listener's backlog */
    SHIFTS = 4096,       /* different payloads */
    SILENCE_MS = 10000,  /* nothing for so long is a failure */
    SETTLE_NS = 4000000, /* for the server to go to sleep after its last reply */
    WRITE = 65536,       /* bytes sent by one call, at most */
    SOURCES = 64,        /* addresses to connect from, with --churn: old connections hold their ports */
};

struct connection {
    int fd;
    bool connected;
    uint32_t messages; /* started so far; chooses the payload */
    uint32_t sent;     /* bytes of the message under way */
    uint32_t received;
    bool busy;      /* with --rate: a message is under way */
    uint32_t late;  /* with --rate: messages that are due, behind the one under way */
    double due;     /* with --rate: when the one under way was to be sent */
};

static struct {
    int port;
    uint32_t active; /* connections that take part in the windows */
    uint32_t idle;   /* connections that are proven and then left alone */
    uint32_t size;   /* bytes of a message */
    uint32_t reply;  /* bytes of its answer; 0: it is the message */
    bool churn;
    bool udp;
    double rate;     /* messages a second; 0: as many as possible */
    pid_t server;    /* whose CPU clock to read; 0: nobody's */
} options = {.active = 1, .size = 64};

static struct connection *connections;
static int epoll_fd;
static unsigned char *payloads; /* size + SHIFTS bytes; a payload is a slice of it */
static unsigned char *scratch;  /* what arrived; compared at once, so one serves all connections */

static uint32_t under_way;  /* connections waiting for their reply */
static uint64_t completed;  /* messages back and found right, since the start */
static uint64_t to_start;   /* messages that the window may still start */
static bool in_window;
static clockid_t server_clock;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        fail("reading a clock: %s (has the server ended?)", strerror(errno));
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Which bytes a message carries depends on its connection and its number, so that a reply from another
 * connection, or an old one, is seen to be wrong. */
static const unsigned char *payload_of(const struct connection *connection)
{
    uint32_t index = (uint32_t)(connection - connections);
    return payloads + (index * 37 + connection->messages * 11) % SHIFTS;
}

static void watch(struct connection *connection, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void send_rest(struct connection *connection)
{
    const unsigned char *payload = payload_of(connection);
    while (connection->sent < options.size) {
        uint32_t rest = options.size - connection->sent;
        ssize_t count = send(connection->fd, payload + connection->sent, rest < WRITE ? rest : WRITE,
                             MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) {
            watch(connection, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (count < 0)
            fail("send: %s", strerror(errno));
        connection->sent += (uint32_t)count;
    }
}

static void start_message(struct connection *connection)
{
    connection->messages++;
    connection->sent = connection->received = 0;
    send_rest(connection);
}

static void start_connect(struct connection *connection);

/* The next message, on the connection that is there or on a new one. */
static void start(struct connection *connection)
{
    under_way++;
    if (options.churn)
        start_connect(connection);
    else
        start_message(connection);
}

/* The reply of a message with a due time is there. */
static void finish_due(struct connection *connection)
{
    record(seconds_of(CLOCK_MONOTONIC) - connection->due);
    connection->busy = connection->late > 0;
    if (connection->busy) {
        connection->late--;
        connection->due += options.active / options.rate;
        start(connection);
    }
}

static void finish_message(struct connection *connection)
{
    under_way--;
    completed++;
    if (options.churn) {
        close(connection->fd);
        connection->connected = false;
    }
    if (options.rate > 0 && in_window) {
        finish_due(connection);
    } else if (to_start > 0) {
        to_start--;
        start(connection);
    }
}

static ssize_t take_reply(struct connection *connection, uint32_t wanted)
{
    if (options.reply == 0) {
        /* One byte more than is due, where the message ends: a server that says too much is found out. */
        ssize_t count = recv(connection->fd, scratch, wanted + 1, 0);
        if (count > 0 && (uint32_t)count <= wanted &&
            memcmp(scratch, payload_of(connection) + connection->received, (size_t)count) != 0)
            fail("the server sent back other bytes than it was sent");
        return count;
    }
    return recv(connection->fd, NULL, (size_t)wanted + 1, MSG_TRUNC); /* TCP: drop them, and count */
}

static void receive(struct connection *connection)
{
    uint32_t due = options.reply ? options.reply : options.size;
    uint32_t wanted = due - connection->received;
    ssize_t count = take_reply(connection, wanted);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count < 0)
        fail("recv: %s", strerror(errno));
    if (count == 0)
        fail("the server closed a connection");
    if ((uint32_t)count > wanted)
        fail("the server sent more than it should");
    connection->received += (uint32_t)count;
    if (connection->received == due)
        finish_message(connection);
}

static void finish_connect(struct connection *connection)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0)
        fail("connect: %s", strerror(error));
    connection->connected = true;
    watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    start_message(connection);
}

static void turn(bool waiting)
{
    struct epoll_event events[BATCH];
    int count = epoll_wait(epoll_fd, events, BATCH, waiting ? SILENCE_MS : 0);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    if (count == 0 && waiting)
        fail("nothing from the server for %d s", SILENCE_MS / 1000);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (!connection->connected) {
            finish_connect(connection);
            continue;
        }
        if (events[i].events & EPOLLOUT) {
            watch(connection, EPOLL_CTL_MOD, EPOLLIN);
            send_rest(connection);
        }
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
            receive(connection);
    }
}

/* Whoever closes first keeps the pair of addresses for a minute. There are more pairs than ports. */
static void bind_next_source(int fd)
{
    static uint32_t number;
    struct sockaddr_in address = {.sin_family = AF_INET};
    int yes = 1; /* the port is chosen with the connection, by the pair */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number++ % SOURCES);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind: %s", strerror(errno));
}

static void start_connect(struct connection *connection)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1;
    int kind = options.udp ? SOCK_DGRAM : SOCK_STREAM;
    connection->fd = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        fail("socket: %s%s", strerror(errno), errno == EMFILE ? " (raise it: ulimit -n)" : "");
    if (!options.udp)
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (options.churn)
        bind_next_source(connection->fd);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    watch(connection, EPOLL_CTL_ADD, EPOLLOUT);
}

/* Returns when the first message of every connection is back: connect() alone would only prove that the
 * kernel has the connection, not that the server took it. */
static void open_connections(void)
{
    uint32_t total = options.active + options.idle, started = 0;
    to_start = 0;
    while (completed < total) {
        while (started < total && started - completed < OPENING_LIMIT) {
            under_way++;
            start_connect(&connections[started++]);
        }
        turn(true);
    }
}

static void settle(void)
{
    struct timespec pause = {.tv_nsec = SETTLE_NS};
    nanosleep(&pause, NULL);
}

/* Sends as fast as replies come. */
static void send_at_once(uint64_t messages, double seconds, double begin)
{
    to_start = messages;
    for (uint32_t i = 0; i < options.active && to_start > 0; i++) {
        to_start--;
        start(&connections[i]);
    }
    while (under_way > 0) {
        turn(true);
        if (to_start > 0 && seconds_of(CLOCK_MONOTONIC) - begin >= seconds)
            to_start = 0;
    }
}

/* Sends by the clock, which it watches without sleeping: this CPU is the load's. */
static void send_by_clock(uint64_t messages, double begin)
{
    for (uint64_t number = 0; number < messages;) {
        double due = begin + (double)number / options.rate;
        if (seconds_of(CLOCK_MONOTONIC) < due) {
            turn(false);
            continue;
        }
        struct connection *connection = &connections[number++ % options.active];
        if (connection->busy) {
            connection->late++;
            continue;
        }
        connection->busy = true;
        connection->due = due;
        start(connection);
    }
    while (under_way > 0)
        turn(true);
}

/* A window of `messages` messages, or as many as fit into `seconds`. */
static void measure(uint64_t messages, double seconds)
{
    settle();
    uint64_t completed_before = completed;
    double server_before = options.server ? seconds_of(server_clock) : 0;
    double own_before = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    double begin = seconds_of(CLOCK_MONOTONIC);

    in_window = true;
    clear_histogram();
    if (options.rate > 0)
        send_by_clock(messages == UINT64_MAX ? (uint64_t)(seconds * options.rate) : messages, begin);
    else
        send_at_once(messages, seconds, begin);
    in_window = false;

    double elapsed = seconds_of(CLOCK_MONOTONIC) - begin;
    double own = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - own_before;
    settle();
    double server = options.server ? seconds_of(server_clock) - server_before : 0;
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"server_cpu\": %.6f, \"load_cpu\": %.6f",
           (unsigned long long)(completed - completed_before), elapsed, server, own);
    if (options.rate > 0) {
        printf(", \"histogram\": ");
        print_histogram();
    }
    printf("}\n");
    fflush(stdout);
}

static void obey(void)
{
    char line[128];
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long messages;
        double seconds;
        if (sscanf(line, "messages %llu", &messages) == 1)
            measure(messages, 1e9);
        else if (sscanf(line, "seconds %lf", &seconds) == 1)
            measure(UINT64_MAX, seconds);
        else
            fail("not a command: %s", line);
    }
}

static void parse(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'}, {"active", required_argument, NULL, 'a'},
        {"idle", required_argument, NULL, 'i'}, {"size", required_argument, NULL, 's'},
        {"server", required_argument, NULL, 'c'}, {"reply", required_argument, NULL, 'r'},
        {"rate", required_argument, NULL, 't'},   {"churn", no_argument, NULL, 'n'},
        {"udp", no_argument, NULL, 'u'},
        {NULL, 0, NULL, 0},
    };
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = atoi(optarg); break;
        case 'a': options.active = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'i': options.idle = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 's': options.size = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'c': options.server = (pid_t)atoi(optarg); break;
        case 'r': options.reply = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 't': options.rate = strtod(optarg, NULL); break;
        case 'n': options.churn = true; break;
        case 'u': options.udp = true; break;
        default: exit(2);
        }
    }
    if (options.port <= 0 || options.active == 0 || options.size == 0) {
        fputs("usage: load --port N [--active N] [--idle N] [--size BYTES] [--server PID]\n"
              "            [--reply BYTES] [--churn | --udp | --rate N]\n", stderr);
        exit(2);
    }
}

static void prepare(void)
{
    connections = calloc(options.active + options.idle, sizeof *connections);
    payloads = malloc(options.size + SHIFTS);
    scratch = malloc(options.size + 1);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (connections == NULL || payloads == NULL || scratch == NULL || epoll_fd < 0)
        fail("out of memory or of file descriptors");
    uint32_t random = 2463534242u; /* xorshift32, always the same bytes */
    for (uint32_t i = 0; i < options.size + SHIFTS; i++) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        payloads[i] = (unsigned char)(random >> 24);
    }
    if (options.server && clock_getcpuclockid(options.server, &server_clock) != 0)
        fail("no process %d", (int)options.server);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    prepare();
    open_connections();
    printf("{\"connections\": %u}\n", options.active + options.idle);
    fflush(stdout);
    obey();
    return 0;
}
