// Package testserver starts the real server for tests.
package testserver

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Server is a running `taskey`.
type Server struct {
	// Gateway and Auth are addresses. They stay the same after a restart.
	Gateway, Auth string
	// Data is the data directory.
	Data string

	t         testing.TB
	process   *exec.Cmd
	arguments []string
}

// Start starts a server with an empty data directory and without rate limits. It ends with the test.
func Start(t testing.TB, arguments ...string) *Server {
	t.Helper()
	server := &Server{t: t, Data: t.TempDir(), Gateway: freeAddress(t), Auth: freeAddress(t)}
	server.arguments = append([]string{
		"--data-dir", server.Data, "--gateway-listen", server.Gateway, "--auth-listen", server.Auth,
		"--task-listen", "127.0.0.1:0", "--rate-limits", "off", "--log", "warn", "--drain-timeout", "1s",
	}, arguments...)
	server.Run()
	t.Cleanup(server.Kill)
	return server
}

// Program returns the path of a program of the server, which the variable TASKEY_PROGRAMS can change.
func Program(name string) string {
	folder := os.Getenv("TASKEY_PROGRAMS")
	if folder == "" {
		_, file, _, _ := runtime.Caller(0)
		folder = filepath.Join(filepath.Dir(file), "../../../../target/debug")
	}
	return filepath.Join(folder, name)
}

// Run starts the server again after Kill or Stop, and waits until it listens.
func (s *Server) Run() {
	s.t.Helper()
	s.process = exec.Command(Program("taskey"), s.arguments...)
	s.process.Stderr = os.Stderr
	output, err := s.process.StdoutPipe()
	if err == nil {
		err = s.process.Start()
	}
	if err != nil {
		s.t.Fatalf("cannot start taskey; build it with `cargo build`, or set TASKEY_PROGRAMS: %v", err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "listening gateway ") {
			go io.Copy(io.Discard, output)
			Eventually(s.t, 10*time.Second, s.isReady)
			return
		}
	}
	s.t.Fatal("taskey does not listen")
}

func (s *Server) isReady() bool {
	response, err := http.Get("http://" + s.Gateway + "/readyz")
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Kill ends the server without notice.
func (s *Server) Kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// Stop shuts the server down, which sends GOAWAY to its clients.
func (s *Server) Stop() {
	_ = s.process.Process.Signal(os.Interrupt)
	_ = s.process.Wait()
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// Proxy forwards connections to a server, and simulates failures of the network.
type Proxy struct {
	// Address is where it listens.
	Address string

	listener net.Listener
	target   string
	commands chan func(map[net.Conn]net.Conn)
	stalled  chan struct{}
}

// StartProxy starts a proxy in front of a server. It ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &Proxy{
		Address: listener.Addr().String(), listener: listener, target: target,
		commands: make(chan func(map[net.Conn]net.Conn)), stalled: make(chan struct{}),
	}
	go proxy.accept()
	go proxy.run()
	t.Cleanup(func() { listener.Close(); proxy.Cut(); close(proxy.commands) })
	return proxy
}

func (p *Proxy) run() {
	connections := make(map[net.Conn]net.Conn)
	for command := range p.commands {
		command(connections)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.commands <- func(connections map[net.Conn]net.Conn) {
			connections[client] = server
			stalled := p.stalled
			go forward(client, server, stalled)
			go forward(server, client, stalled)
		}
	}
}

// forward copies until a connection is closed. Once the proxy stalls, it reads and discards.
func forward(from, to net.Conn, stalled chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		count, err := from.Read(buffer)
		select {
		case <-stalled:
		default:
			_, _ = to.Write(buffer[:count])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.do(func(connections map[net.Conn]net.Conn) {
		for client, server := range connections {
			client.Close()
			server.Close()
		}
		clear(connections)
	})
}

// Stall discards all further data of the current connections, which stay open.
func (p *Proxy) Stall() {
	p.do(func(map[net.Conn]net.Conn) {
		close(p.stalled)
		p.stalled = make(chan struct{})
	})
}

func (p *Proxy) do(command func(map[net.Conn]net.Conn)) {
	done := make(chan struct{})
	p.commands <- func(connections map[net.Conn]net.Conn) {
		command(connections)
		close(done)
	}
	<-done
}

// Eventually waits until a condition holds.
func Eventually(t testing.TB, timeout time.Duration, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition does not hold in time")
		}
	}
}
