// Package taskey is the Go client of Taskey, a to-do backend.
//
// A [Client] has the generated stubs of all services. It authenticates their calls, makes retries safe, and returns
// errors of type [*Error].
package taskey

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
)

// Retries, and the default timeouts of calls.
//
//go:embed service_config.json
var serviceConfig string

const maxMessageBytes = 16 << 20

// Config configures a [Client]. Only Address is required.
type Config struct {
	// Address is the host and port of the gateway, such as tasks.example.org:443.
	Address string
	// TLS names the files for TLS. By default, the server must have a certificate of a system root.
	TLS TLS
	// Plaintext disables TLS. Tokens can then be intercepted, so it is meant for loopback addresses.
	Plaintext bool
	// Email and Password start a session on the first call that requires one. The client refreshes its tokens.
	Email, Password string
	// SessionLabel is the name of the session in the list of the user's sessions.
	SessionLabel string
	// Token is sent with each call as it is, instead of the tokens of a session, and never refreshed: a personal access
	// token, or an access token.
	Token string
	// DialOptions are added to the options of the connection.
	DialOptions []grpc.DialOption
}

// TLS names PEM files.
type TLS struct {
	// CAFile has the certificates of trusted authorities. They replace those of the system.
	CAFile string
	// CertFile and KeyFile have the certificate of the client and its private key, for mutual TLS. They are read for
	// each connection, so that they can be replaced.
	CertFile, KeyFile string
}

// Client calls the services of Taskey. It is safe for concurrent use.
type Client struct {
	Auth    authv1.AuthServiceClient
	Account authv1.AccountServiceClient
	Admin   authv1.AdminServiceClient
	// PersonalAccessTokens manages the tokens of the user's programs.
	PersonalAccessTokens authv1.PersonalAccessTokenServiceClient
	Tasks                taskv1.TaskServiceClient
	TaskLists            taskv1.TaskListServiceClient

	conn     *grpc.ClientConn
	session  *session
	throttle throttle
}

// New creates a client. It connects on the first call.
func New(config Config) (*Client, error) {
	transport, err := Credentials(config.TLS, config.Plaintext)
	if err != nil {
		return nil, err
	}
	client := &Client{throttle: throttle{tokens: maxTokens}}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// The interceptor retries calls instead, because gRPC retries no writes, and ignores google.rpc.RetryInfo.
		grpc.WithDisableRetry(),
		grpc.WithChainUnaryInterceptor(client.interceptUnary),
		grpc.WithChainStreamInterceptor(client.interceptStream),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithUserAgent("taskey-go"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Closes connections whose peer has disappeared.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 5 * time.Second}),
	}, config.DialOptions...)
	if client.conn, err = grpc.NewClient(config.Address, options...); err != nil {
		return nil, fmt.Errorf("taskey: %w", err)
	}
	client.Auth = authv1.NewAuthServiceClient(client.conn)
	client.Account = authv1.NewAccountServiceClient(client.conn)
	client.Admin = authv1.NewAdminServiceClient(client.conn)
	client.PersonalAccessTokens = authv1.NewPersonalAccessTokenServiceClient(client.conn)
	client.Tasks = taskv1.NewTaskServiceClient(client.conn)
	client.TaskLists = taskv1.NewTaskListServiceClient(client.conn)
	client.session = newSession(client.Auth, config)
	return client, nil
}

// Conn returns the connection, for stubs that the client does not have. Their calls are authenticated as well.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Token returns the current access token, after a login or a refresh if necessary. It is empty if the client has no
// credentials.
func (c *Client) Token(ctx context.Context) (string, error) { return c.session.token(ctx) }

// Logout revokes the session and forgets its tokens. A later call starts a new session if the client has a password.
func (c *Client) Logout(ctx context.Context) error {
	tokens := c.session.current()
	if c.session.bearer != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.session.bearer)
	} else if tokens == nil {
		return nil
	}
	_, err := c.Auth.Logout(ctx, &authv1.LogoutRequest{RefreshToken: tokens.GetRefreshToken()})
	if err == nil {
		c.session.replace(tokens, nil)
	}
	return err
}

// Close cancels all calls and closes the connection. The session stays active.
func (c *Client) Close() error {
	c.session.stop()
	return c.conn.Close()
}

// Credentials returns the transport credentials for a connection to Taskey.
func Credentials(files TLS, plaintext bool) (credentials.TransportCredentials, error) {
	if plaintext {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.CAFile != "" {
		pem, err := os.ReadFile(files.CAFile)
		if err != nil {
			return nil, fmt.Errorf("taskey: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("taskey: %s contains no certificate", files.CAFile)
		}
	}
	if files.CertFile != "" || files.KeyFile != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
			return &certificate, err
		}
	}
	return credentials.NewTLS(config), nil
}
