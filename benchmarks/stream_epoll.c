/* The floor for streaming: epoll, in C. `stream in` drops what comes and answers each full block with a
 * byte; `stream out` answers each byte with a block, in writes of 64 KiB.
 *
 * Level-triggered, one thread. Prints {"port": N} and serves until it is killed.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server.h"

enum { BATCH = 256, CHUNK = 65536, BLOCK = 1024 * 1024 };

struct connection {
    int fd;
    int left; /* bytes of the block under way */
};

static int epoll_fd;
static char buffer[CHUNK];

static void watch(struct connection *connection, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0)
        fail("epoll_ctl");
}

static void drop(struct connection *connection)
{
    close(connection->fd);
    free(connection);
}

static void take_in(struct connection *connection)
{
    ssize_t received = recv(connection->fd, buffer, CHUNK, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        drop(connection);
        return;
    }
    connection->left -= (int)received;
    if (connection->left <= 0) {
        connection->left += BLOCK;
        /* a byte always fits: the peer has read the one before */
        if (send(connection->fd, "!", 1, MSG_NOSIGNAL) != 1)
            drop(connection);
    }
}

static void put_out(struct connection *connection, uint32_t events)
{
    if (!(events & EPOLLOUT)) {
        char request;
        if (recv(connection->fd, &request, 1, 0) <= 0) {
            drop(connection);
            return;
        }
        connection->left = BLOCK;
    }
    while (connection->left > 0) {
        int size = connection->left < CHUNK ? connection->left : CHUNK;
        ssize_t sent = send(connection->fd, buffer, (size_t)size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            if (!(events & EPOLLOUT))
                watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
            return;
        }
        if (sent < 0) {
            drop(connection);
            return;
        }
        connection->left -= (int)sent;
    }
    if (events & EPOLLOUT)
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
}

static void on_acceptable(const struct connection *listener, bool out)
{
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EAGAIN)
            return;
        struct connection *connection = calloc(1, sizeof *connection);
        if (fd < 0 || connection == NULL)
            fail("accept4");
        connection->fd = fd;
        connection->left = out ? 0 : BLOCK;
        watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[BATCH];
    struct connection listener = {0};
    bool out = argc > 1 && strcmp(argv[1], "out") == 0;
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    listener.fd = listen_on_loopback(SOCK_NONBLOCK);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, BATCH, -1);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == &listener)
                on_acceptable(&listener, out);
            else if (out)
                put_out(connection, events[i].events);
            else
                take_in(connection);
        }
    }
}
