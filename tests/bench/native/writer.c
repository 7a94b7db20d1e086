/* The least that a fan-out can cost: a loop that writes frames, in C.
 *
 *     writer each|joined
 *
 * listens on a free port of 127.0.0.1 and says {"port":PORT}. Every line of its input is a message
 * for all clients: each in a write of its own, or those that came with one read joined in one write
 * per client. What a socket does not take waits in memory. It ends with its input.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_CLIENTS 20000
#define INPUT_BYTES (1 << 16)
#define LINE_BYTES (1 << 16)

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             "Connection: Upgrade\r\n\r\n";

typedef struct {
    int fd;
    int upgraded;
    char *waiting;
    size_t length;
} client_t;

static client_t clients[MOST_CLIENTS];
static size_t client_count;
static int poll_fd;

static void fail(const char *what) {
    fprintf(stderr, "writer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(client_t *client, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(poll_fd, operation, client->fd, &event) < 0) fail("epoll_ctl");
}

static void keep(client_t *client, const char *bytes, size_t length) {
    if (!client->length) watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    client->waiting = realloc(client->waiting, client->length + length);
    if (!client->waiting) fail("memory");
    memcpy(client->waiting + client->length, bytes, length);
    client->length += length;
}

static void write_to_all(const char *bytes, size_t length) {
    for (size_t number = 0; number < client_count; number++) {
        client_t *client = &clients[number];
        if (client->fd < 0 || !client->upgraded) continue;
        ssize_t taken = 0;
        if (!client->length) {
            taken = send(client->fd, bytes, length, MSG_NOSIGNAL);
            if (taken < 0) taken = 0; /* it is full, or has gone: then reading says so */
        }
        if ((size_t)taken < length) keep(client, bytes + taken, length - (size_t)taken);
    }
}

static void write_waiting(client_t *client) {
    ssize_t taken = send(client->fd, client->waiting, client->length, MSG_NOSIGNAL);
    if (taken <= 0) return;
    client->length -= (size_t)taken;
    memmove(client->waiting, client->waiting + taken, client->length);
    if (!client->length) watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

static void read_from(client_t *client) {
    char bytes[4096];
    ssize_t count = recv(client->fd, bytes, sizeof bytes, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        close(client->fd);
        client->fd = -1;
    } else if (!client->upgraded) { /* the request of our reader comes in one piece */
        if (send(client->fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL) < 0) fail("answer");
        client->upgraded = 1;
    }
}

static void accept_client(int listening) {
    int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0 || client_count == MOST_CLIENTS) fail("accept");
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client_t *client = &clients[client_count++];
    client->fd = fd;
    watch(client, EPOLL_CTL_ADD, EPOLLIN);
}

static size_t put_frame(char *out, const char *text, size_t length) {
    size_t head = 2;
    out[0] = (char)0x81;
    if (length < 126) {
        out[1] = (char)length;
    } else {
        out[1] = 126;
        out[2] = (char)(length >> 8);
        out[3] = (char)length;
        head = 4;
    }
    memcpy(out + head, text, length);
    return head + length;
}

/* Sends the lines that have come; returns how many bytes they are. */
static size_t broadcast(const char *input, size_t there, int joined) {
    static char frames[2 * (INPUT_BYTES + LINE_BYTES)];
    size_t at = 0, length = 0;
    const char *end;
    while ((end = memchr(input + at, '\n', there - at))) {
        size_t line = (size_t)(end - input) - at;
        length += put_frame(frames + length, input + at, line);
        at += line + 1;
        if (!joined) {
            write_to_all(frames, length);
            length = 0;
        }
    }
    if (length) write_to_all(frames, length);
    return at;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    int joined = strcmp(arguments[1], "joined") == 0;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listening, (struct sockaddr *)&address, size) < 0) fail("bind");
    if (listen(listening, 4096) < 0) fail("listen");
    getsockname(listening, (struct sockaddr *)&address, &size);
    poll_fd = epoll_create1(0);
    client_t input_mark, listening_mark;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &input_mark};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    event.data.ptr = &listening_mark;
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listening, &event);
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    static char input[INPUT_BYTES + LINE_BYTES];
    size_t there = 0;
    for (;;) {
        struct epoll_event events[512];
        int ready = epoll_wait(poll_fd, events, 512, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int number = 0; number < ready; number++) {
            client_t *client = events[number].data.ptr;
            if (client == &listening_mark) {
                accept_client(listening);
            } else if (client == &input_mark) {
                ssize_t got = read(STDIN_FILENO, input + there, INPUT_BYTES);
                if (got <= 0) return 0;
                there += (size_t)got;
                size_t taken = broadcast(input, there, joined);
                there -= taken;
                memmove(input, input + taken, there);
                if (there >= LINE_BYTES) fail("a line is too long");
            } else {
                if (events[number].events & EPOLLOUT) write_waiting(client);
                if (client->fd >= 0) read_from(client);
            }
        }
    }
}
