/* The floor on io_uring: the echo server of echo_epoll.c through liburing.
 *
 * One thread, one ring, single-shot receives and sends with a buffer for each connection, as a completion
 * interface has it; a turn is one system call. Prints {"port": N} and serves until it is killed.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "server.h"

enum { ENTRIES = 4096, BUFFER = 65536 };

struct connection {
    int fd;
    bool sending; /* what its one operation under way is */
    size_t length;
    char buffer[BUFFER];
};

static struct io_uring ring;

static void check(int result, const char *what)
{
    if (result < 0) {
        errno = -result;
        fail(what);
    }
}

static struct io_uring_sqe *next_entry(void)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    if (entry == NULL) { /* full: hand over what is there */
        io_uring_submit(&ring);
        entry = io_uring_get_sqe(&ring);
    }
    if (entry == NULL)
        check(-EBUSY, "io_uring_get_sqe");
    return entry;
}

static void receive(struct connection *connection)
{
    struct io_uring_sqe *entry = next_entry();
    io_uring_prep_recv(entry, connection->fd, connection->buffer, BUFFER, 0);
    io_uring_sqe_set_data(entry, connection);
    connection->sending = false;
}

static void send_back(struct connection *connection)
{
    struct io_uring_sqe *entry = next_entry();
    io_uring_prep_send(entry, connection->fd, connection->buffer, connection->length,
                       MSG_WAITALL | MSG_NOSIGNAL);
    io_uring_sqe_set_data(entry, connection);
    connection->sending = true;
}

static void accept_next(int listener)
{
    struct io_uring_sqe *entry = next_entry();
    io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(entry, NULL);
}

static void on_accepted(int listener, int result, unsigned flags)
{
    if (!(flags & IORING_CQE_F_MORE))
        accept_next(listener);
    if (result < 0)
        return;
    struct connection *connection = malloc(sizeof *connection);
    if (connection == NULL)
        fail("malloc");
    connection->fd = result;
    receive(connection);
}

static void on_finished(struct connection *connection, int result)
{
    /* with MSG_WAITALL a short send is a broken connection's */
    if (result <= 0 || (connection->sending && (size_t)result < connection->length)) {
        close(connection->fd);
        free(connection);
    } else if (connection->sending) {
        receive(connection);
    } else {
        connection->length = (size_t)result;
        send_back(connection);
    }
}

int main(void)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        .cq_entries = 4 * ENTRIES,
    };
    check(io_uring_queue_init_params(ENTRIES, &ring, &params), "io_uring_queue_init_params");
    int listener = listen_on_loopback(0);
    accept_next(listener);
    for (;;) {
        int result = io_uring_submit_and_wait(&ring, 1);
        if (result != -EINTR && result != -EAGAIN && result != -EBUSY)
            check(result, "io_uring_submit_and_wait");
        struct io_uring_cqe *completion;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&ring, head, completion) {
            struct connection *connection = io_uring_cqe_get_data(completion);
            if (connection == NULL)
                on_accepted(listener, completion->res, completion->flags);
            else
                on_finished(connection, completion->res);
            count++;
        }
        io_uring_cq_advance(&ring, count);
    }
}
