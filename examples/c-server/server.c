/* Answers every HTTP request with a greeting. As the first process of its container it must ask for SIGTERM itself. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void stop(int signal)
{
	(void)signal;
	_exit(0);
}

static void answer(int client)
{
	char request[4096];
	if (read(client, request, sizeof request) <= 0)
		return;
	const char *body = "hello from a container without an operating system\n";
	dprintf(client,
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		strlen(body), body);
}

int main(int argc, char **argv)
{
	int port = argc > 1 ? atoi(argv[1]) : 8080;
	int server = socket(AF_INET, SOCK_STREAM, 0);
	int yes = 1;
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port) };

	signal(SIGTERM, stop);
	signal(SIGINT, stop);
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(server, (struct sockaddr *)&here, sizeof here) < 0 || listen(server, 16) < 0) {
		perror("server");
		return 1;
	}
	printf("listening on port %d\n", port);
	fflush(stdout);
	for (;;) {
		int client = accept(server, NULL, NULL);
		if (client < 0)
			continue;
		answer(client);
		close(client);
	}
}
