package taskey_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"taskey.dev/taskey"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
)

// fake is a server whose sync tokens all have expired.
type fake struct {
	taskv1.UnimplementedTaskServiceServer
}

func (fake) GetTask(_ context.Context, request *taskv1.GetTaskRequest) (*taskv1.Task, error) {
	return &taskv1.Task{Id: request.GetId()}, nil
}

func (fake) WatchTasks(
	request *taskv1.WatchTasksRequest, stream grpc.ServerStreamingServer[taskv1.WatchTasksResponse],
) error {
	if request.GetSyncToken() != "" {
		return failure(codes.OutOfRange, "SYNC_TOKEN_EXPIRED", 0)
	}
	return stream.Send(&taskv1.WatchTasksResponse{SyncToken: "token", Checkpoint: true})
}

func startFake(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	server := grpc.NewServer(options...)
	taskv1.RegisterTaskServiceServer(server, fake{})
	return serve(t, server)
}

// serve runs a server until the end of the test, and returns its address.
func serve(t *testing.T, server *grpc.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func TestWatchBeginsAgainIfItsSyncTokenHasExpired(t *testing.T) {
	t.Parallel()
	client := open(t, taskey.Config{Address: startFake(t)}, nil)
	resets := 0
	for event, err := range client.Watch(t.Context(), "expired") {
		if err != nil || !event.Reset || event.SyncToken != "token" {
			t.Fatal(event, err)
		}
		if resets++; resets == 2 {
			break
		}
	}
}

// authority issues certificates.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func newAuthority(t *testing.T) *authority {
	authority := &authority{t: t}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true}
	authority.file, _ = authority.issue(template)
	return authority
}

// issue creates a certificate and returns the files of it and of its key.
func (a *authority) issue(template *x509.Certificate) (string, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if a.certificate == nil {
		a.certificate, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	folder := a.t.TempDir()
	certFile, keyFile := filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	blocks := map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:  {Type: "PRIVATE KEY", Bytes: keyDER},
	}
	for file, block := range blocks {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestTLSWithFiles(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t), newAuthority(t)
	certFile, keyFile := ours.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	clientCert, clientKey := ours.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "client"}})
	pool := x509.NewCertPool()
	authorities, err := os.ReadFile(ours.file)
	if err != nil || !pool.AppendCertsFromPEM(authorities) {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	mutual := &tls.Config{Certificates: config.Certificates, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	clientFiles := taskey.TLS{CAFile: ours.file, CertFile: clientCert, KeyFile: clientKey}
	address := startFake(t, grpc.Creds(credentials.NewTLS(config)))
	mutualAddress := startFake(t, grpc.Creds(credentials.NewTLS(mutual)))
	for _, test := range []struct {
		name, address string
		files         taskey.TLS
		code          codes.Code
	}{
		{"trusted server", address, taskey.TLS{CAFile: ours.file}, codes.OK},
		{"untrusted server", address, taskey.TLS{CAFile: others.file}, codes.Unavailable},
		{"client certificate", mutualAddress, clientFiles, codes.OK},
		{"no client certificate", mutualAddress, taskey.TLS{CAFile: ours.file}, codes.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := open(t, taskey.Config{Address: test.address, TLS: test.files}, nil)
			_, err := client.Tasks.GetTask(t.Context(), &taskv1.GetTaskRequest{Id: "x"})
			if test.code != codes.OK {
				assertReason(t, err, test.code, "")
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
	if _, err := taskey.New(taskey.Config{Address: address, TLS: taskey.TLS{CAFile: clientKey}}); err == nil {
		t.Fatal("a file without certificates was accepted")
	}
}
