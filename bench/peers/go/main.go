// A push server as one writes it with gorilla/websocket: a goroutine and a bounded queue for each subscriber, and
// each message prepared once for all of them. `/sub` receives what `/pub` sends. With JWT_KEY_FILE, `/sub` wants a
// `?token=` signed with HS256.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
)

// Messages that wait for one subscriber; one that lets more wait is closed.
const queue = 256

var upgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}

type hub struct {
	sync.Mutex
	subscribers map[chan *websocket.PreparedMessage]struct{}
}

func (h *hub) publish(text []byte) error {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil {
		return err
	}
	h.Lock()
	defer h.Unlock()
	for s := range h.subscribers {
		select {
		case s <- message:
		default:
			delete(h.subscribers, s)
			close(s)
		}
	}
	return nil
}

func (h *hub) add(s chan *websocket.PreparedMessage) {
	h.Lock()
	defer h.Unlock()
	h.subscribers[s] = struct{}{}
}

func (h *hub) remove(s chan *websocket.PreparedMessage) {
	h.Lock()
	defer h.Unlock()
	if _, there := h.subscribers[s]; there {
		delete(h.subscribers, s)
		close(s)
	}
}

func (h *hub) serveSubscriber(w http.ResponseWriter, r *http.Request) {
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	messages := make(chan *websocket.PreparedMessage, queue)
	h.add(messages)
	go func() {
		defer connection.Close()
		for message := range messages {
			if connection.WritePreparedMessage(message) != nil {
				return
			}
		}
	}()
	defer h.remove(messages)
	for {
		if _, _, err := connection.NextReader(); err != nil {
			return
		}
	}
}

func (h *hub) servePublisher(w http.ResponseWriter, r *http.Request) {
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	for {
		_, text, err := connection.ReadMessage()
		if err != nil || h.publish(text) != nil {
			return
		}
	}
}

// Lets pass who has a token, or everybody without a key.
func authenticated(key []byte, next http.HandlerFunc) http.HandlerFunc {
	if len(key) == 0 {
		return next
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	return func(w http.ResponseWriter, r *http.Request) {
		_, err := parser.Parse(r.URL.Query().Get("token"), func(*jwt.Token) (any, error) { return key, nil })
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func main() {
	var key []byte
	if path := os.Getenv("JWT_KEY_FILE"); path != "" {
		var err error
		if key, err = os.ReadFile(path); err != nil {
			panic(err)
		}
	}
	h := &hub{subscribers: map[chan *websocket.PreparedMessage]struct{}{}}
	http.HandleFunc("/sub", authenticated(key, h.serveSubscriber))
	http.HandleFunc("/pub", h.servePublisher)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("READY %d\n", listener.Addr().(*net.TCPAddr).Port)
	panic(http.Serve(listener, nil))
}
