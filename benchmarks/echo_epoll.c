/* The floor: a TCP echo server on epoll, in C, with as little as a correct one needs.
 *
 * Level-triggered, one thread, one shared buffer; what a slow reader leaves unsent is kept for its
 * connection alone. Prints {"port": N} and serves until it is killed.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "server.h"

enum { BATCH = 256, BUFFER = 65536 };

struct connection {
    int fd;
    char *unsent; /* NULL: nothing waits, the common case */
    size_t length;
};

static int epoll_fd;
static char buffer[BUFFER];

static void watch(struct connection *connection, int operation, unsigned events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(epoll_fd, operation, connection->fd, &event) < 0)
        fail("epoll_ctl");
}

static void drop(struct connection *connection)
{
    close(connection->fd); /* also takes it out of the epoll set */
    free(connection->unsent);
    free(connection);
}

/* While something waits the connection is not read, so at most one buffer is ever kept. */
static void keep_unsent(struct connection *connection, const char *data, size_t length)
{
    connection->unsent = malloc(length);
    if (connection->unsent == NULL)
        fail("malloc");
    memcpy(connection->unsent, data, length);
    connection->length = length;
    watch(connection, EPOLL_CTL_MOD, EPOLLOUT);
}

static void on_readable(struct connection *connection)
{
    ssize_t received = recv(connection->fd, buffer, BUFFER, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        drop(connection);
        return;
    }
    ssize_t sent = send(connection->fd, buffer, (size_t)received, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(connection);
        return;
    }
    if (sent < 0)
        sent = 0;
    if (sent < received)
        keep_unsent(connection, buffer + sent, (size_t)(received - sent));
}

static void on_writable(struct connection *connection)
{
    ssize_t sent = send(connection->fd, connection->unsent, connection->length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN)
        return;
    if (sent < 0) {
        drop(connection);
        return;
    }
    connection->length -= (size_t)sent;
    memmove(connection->unsent, connection->unsent + sent, connection->length);
    if (connection->length == 0) {
        free(connection->unsent);
        connection->unsent = NULL;
        watch(connection, EPOLL_CTL_MOD, EPOLLIN);
    }
}

static void on_acceptable(const struct connection *listener)
{
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EAGAIN)
            return;
        if (fd < 0)
            fail("accept4");
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL)
            fail("calloc");
        connection->fd = fd;
        watch(connection, EPOLL_CTL_ADD, EPOLLIN);
    }
}

int main(void)
{
    struct epoll_event events[BATCH];
    struct connection listener = {0};
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
                on_acceptable(&listener);
            else if (connection->unsent != NULL)
                on_writable(connection);
            else
                on_readable(connection);
        }
    }
}
