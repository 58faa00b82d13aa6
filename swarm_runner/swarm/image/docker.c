/* The command that HTCondor runs as `docker`. It passes its arguments and its standard streams to
 * the executor's gateway (gateway.py) and exits with the code that the gateway returns.
 *
 * Request: the length of the arguments (32 bits, network order) with the three descriptors
 * attached, then the arguments, each ended by a zero byte. Reply: any number of 'h' (the gateway
 * lives and still works on the request), then 'x' and the exit code.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET "/run/swarm-runner/gateway.sock"
#define FAILED 125    /* as docker's own command exits if it could not do what was asked */
#define SEND_S 20     /* also limits connect() */
#define SILENCE_S 60  /* the gateway sends 'h' every 15 s */
#define STALL_S 600   /* of `start`: a job goes on when its node stalls for minutes */

static int fail(const char *what, int error)
{
    dprintf(2, "swarm-runner: the executor's gateway %s%s%s; no container is started without it\n",
            what, error ? ": " : "", error ? strerror(error) : "");
    return FAILED;
}

static int send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -1;
        data += sent;
        size -= (size_t)sent;
    }
    return 0;
}

int main(int argc, char **argv)
{
    /* A caller may have closed a standard stream. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            return FAILED;

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int starts = argc > 1 && strcmp(argv[1], "start") == 0;
    struct timeval send_limit = {SEND_S, 0}, silence = {starts ? STALL_S : SILENCE_S, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send_limit, sizeof send_limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return fail("does not answer", errno);

    size_t size = 0;
    for (int i = 1; i < argc; i++)
        size += strlen(argv[i]) + 1;
    uint32_t length = htonl((uint32_t)size);
    int streams[3] = {0, 1, 2};
    union {
        char bytes[CMSG_SPACE(sizeof streams)];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec part = {&length, sizeof length};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof streams);
    memcpy(CMSG_DATA(header), streams, sizeof streams);
    if (sendmsg(fd, &message, MSG_NOSIGNAL) != (ssize_t)sizeof length)
        return fail("takes no requests", errno);
    for (int i = 1; i < argc; i++)
        if (send_all(fd, argv[i], strlen(argv[i]) + 1) < 0)
            return fail("takes no requests", errno);

    for (;;) {
        unsigned char reply[2];
        ssize_t got = recv(fd, reply, 1, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN ? fail("hangs", 0) : fail("failed", errno);
        if (got == 0)
            return fail("has gone away", 0);
        if (reply[0] == 'h')
            continue;
        if (reply[0] != 'x' || recv(fd, reply + 1, 1, MSG_WAITALL) != 1)
            return fail("has gone away", 0);
        return reply[1];
    }
}
