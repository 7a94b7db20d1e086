/* The clients of a benchmark: WebSockets that read, in one process that costs next to nothing.
 *
 *     reader PORT COUNT PATH NAP
 *
 * connects COUNT clients to 127.0.0.1 and says "ready". Frames of type new_message hold a text
 * that begins with "@NUMBER@NANOSECONDS@", the time of CLOCK_MONOTONIC at which it was sent. When
 * the last client has message NUMBER, a line "NUMBER MICROSECONDS" says how old it was by then.
 * A line on stdin asks for a report, one line of JSON about all deliveries since the last one.
 * Pings are answered. It ends with its input; it fails if a client is disconnected.
 *
 * After it has read what there is, it naps for NAP microseconds. Without that, whether a server's
 * write has to wake it, which costs as much as half a write, depends on how fast the server is: a
 * real client is on another machine. Where latency is measured NAP is 0.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES (1 << 20)
#define FRAME_BYTES (1 << 20)
#define STDIN_MARK UINT32_MAX

static const char TYPE[] = "{\"type\":\"new_message\"";

typedef struct {
    int fd;
    unsigned char *tail; /* of a frame that has not come as a whole */
    size_t length;
} client_t;

typedef struct {
    uint32_t heard; /* by so many clients */
    uint64_t latest_ns;
} message_t;

static client_t *clients;
static uint32_t client_count;
static message_t *messages;
static size_t message_room;
static uint32_t *microseconds;
static size_t delivery_count, delivery_room;
static unsigned char data[FRAME_BYTES + READ_BYTES];

static void fail(const char *what) {
    fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *grown(void *array, size_t *room, size_t wanted, size_t size) {
    size_t before = *room;
    if (wanted < before) return array;
    while (*room <= wanted) *room = *room ? *room * 2 : 4096;
    array = realloc(array, *room * size);
    if (!array) fail("memory");
    memset((char *)array + before * size, 0, (*room - before) * size);
    return array;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t decimal(const unsigned char **at, const unsigned char *end) {
    uint64_t value = 0;
    while (*at < end && **at >= '0' && **at <= '9') value = value * 10 + (uint64_t)(*(*at)++ - '0');
    return value;
}

/* Takes note of a text frame that arrived at `now`. */
static void hear(const unsigned char *text, size_t length, uint64_t now) {
    if (length < sizeof TYPE || memcmp(text, TYPE, sizeof TYPE - 1) != 0) return;
    const unsigned char *end = text + length;
    const unsigned char *at = memmem(text, length, "\"@", 2);
    if (!at) return;
    at += 2;
    uint64_t number = decimal(&at, end);
    if (at >= end || *at++ != '@') return;
    uint64_t age = now - decimal(&at, end);
    messages = grown(messages, &message_room, number, sizeof *messages);
    microseconds = grown(microseconds, &delivery_room, delivery_count, sizeof *microseconds);
    microseconds[delivery_count++] = (uint32_t)(age / 1000);
    message_t *message = &messages[number];
    if (age > message->latest_ns) message->latest_ns = age;
    if (++message->heard == client_count)
        printf("%llu %llu\n", (unsigned long long)number, (unsigned long long)message->latest_ns / 1000);
}

static void pong(int fd, const unsigned char *payload, size_t length) {
    unsigned char frame[6 + 125] = {0x8a, (unsigned char)(0x80 | length)}; /* a mask of zeros is one */
    memcpy(frame + 6, payload, length);
    if (write(fd, frame, 6 + length) < 0) fail("pong");
}

/* Reads the whole frames of a client; returns how many bytes they are. */
static size_t take(client_t *client, size_t there, uint64_t now) {
    size_t at = 0;
    while (there - at >= 2) {
        unsigned char opcode = data[at] & 0x0f;
        uint64_t length = data[at + 1] & 0x7f;
        size_t head = length == 126 ? 4 : length == 127 ? 10 : 2;
        if (there - at < head) break;
        if (head > 2) {
            length = 0;
            for (size_t byte = 2; byte < head; byte++) length = length << 8 | data[at + byte];
        }
        if (length + head > FRAME_BYTES) fail("a frame is too long");
        if (there - at < head + length) break;
        if (opcode == 1) hear(data + at + head, length, now);
        if (opcode == 8) fail("the server closed a connection");
        if (opcode == 9) pong(client->fd, data + at + head, length);
        at += head + length;
    }
    return at;
}

static void receive(client_t *client, uint64_t now) {
    memcpy(data, client->tail, client->length);
    ssize_t count = recv(client->fd, data + client->length, READ_BYTES, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) fail("a connection ended");
    size_t there = client->length + (size_t)count;
    size_t taken = take(client, there, now);
    client->length = there - taken;
    client->tail = realloc(client->tail, client->length + 1);
    if (!client->tail) fail("memory");
    memcpy(client->tail, data + taken, client->length);
}

static void connect_client(client_t *client, uint16_t port, const char *path) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0) fail("socket");
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    int on = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    char request[512];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n", path);
    if (write(client->fd, request, (size_t)length) != length) fail("request");
    char head[4096];
    size_t there = 0;
    while (there < 4 || memcmp(head + there - 4, "\r\n\r\n", 4) != 0) { /* frames stay in the socket */
        if (there == sizeof head || read(client->fd, head + there, 1) != 1) fail("handshake");
        there++;
    }
    if (there < 12 || memcmp(head + 9, "101", 3) != 0) fail("the server does not upgrade");
    client->tail = malloc(1);
    client->length = 0;
}

static int by_value(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static double quantile(double share) {
    if (!delivery_count) return 0;
    return microseconds[(size_t)(share * (double)(delivery_count - 1))];
}

static void report(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    qsort(microseconds, delivery_count, sizeof *microseconds, by_value);
    printf("{\"deliveries\":%zu,\"p50_us\":%.0f,\"p95_us\":%.0f,\"p99_us\":%.0f,\"cpu_us\":%lld}\n",
           delivery_count, quantile(0.50), quantile(0.95), quantile(0.99),
           (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000LL + used.ru_utime.tv_usec +
               used.ru_stime.tv_usec);
    delivery_count = 0;
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    useconds_t nap = (useconds_t)atoi(arguments[4]);
    client_count = (uint32_t)atoi(arguments[2]);
    clients = calloc(client_count, sizeof *clients);
    int poll = epoll_create1(0);
    for (uint32_t number = 0; number < client_count; number++) {
        connect_client(&clients[number], (uint16_t)atoi(arguments[1]), arguments[3]);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
        epoll_ctl(poll, EPOLL_CTL_ADD, clients[number].fd, &event);
    }
    struct epoll_event asked = {.events = EPOLLIN, .data.u32 = STDIN_MARK};
    epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &asked);
    puts("ready");
    for (;;) {
        fflush(stdout);
        struct epoll_event events[512];
        int ready = epoll_wait(poll, events, 512, -1);
        if (ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int number = 0; number < ready; number++) {
            if (events[number].data.u32 != STDIN_MARK) {
                receive(&clients[events[number].data.u32], now_ns());
                continue;
            }
            char command[256];
            if (read(STDIN_FILENO, command, sizeof command) <= 0) return 0;
            report();
        }
        if (nap) usleep(nap);
    }
}
