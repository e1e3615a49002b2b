// A push server as one writes it with uWebSockets: topics, one of them. `/sub` receives what `/pub` sends.
#include <cstdio>
#include <string_view>

#include "App.h"

struct Nothing {};

int main() {
    uWS::App app;
    app.ws<Nothing>("/sub", {
        .compression = uWS::DISABLED,
        .idleTimeout = 600,
        .maxBackpressure = 1024 * 1024,
        .open = [](auto *socket) { socket->subscribe("bench"); },
    });
    app.ws<Nothing>("/pub", {
        .compression = uWS::DISABLED,
        .idleTimeout = 600,
        .message = [&app](auto *, std::string_view text, uWS::OpCode opcode) { app.publish("bench", text, opcode); },
    });
    app.listen("127.0.0.1", 0, [](us_listen_socket_t *listener) {
        if (listener == nullptr) {
            std::fprintf(stderr, "no port to listen on\n");
            return;
        }
        std::printf("READY %d\n", us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listener)));
        std::fflush(stdout);
    });
    app.run();
}
