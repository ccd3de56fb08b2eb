package verifier

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	authv1 "taskey.dev/taskey/gen/taskey/auth/v1"
)

const (
	// How long connecting and the first message may take.
	connectTimeout = 1500 * time.Millisecond
	// The delay between attempts doubles from the minimum to the maximum, with jitter.
	minBackoff, maxBackoff = 50 * time.Millisecond, 300 * time.Millisecond
	// How long a stream is used before another one is opened: less than the lifetime of the token that opened it, because
	// the server ends the stream when the token expires.
	maxStreamAge = maxLifetime - 2*time.Minute
	// When a stream fails after more than this duration, the backoff starts over, and the failure is logged.
	stableAfter = 5 * time.Second
	// How often the key file is read, so that changes take effect without a restart.
	pollInterval = 2 * time.Second
	// Maximum duration of an acknowledgement.
	acknowledgeTimeout = 5 * time.Second
)

var (
	errSilent      = errors.New("no heartbeat in time")
	errUnexpected  = errors.New("the feed does not consist of one snapshot of session ids, followed by updates")
	errSharedKey   = errors.New("auth-service signs with a shared key, so this verifier needs a key file")
	errStreamEnded = errors.New("the stream has reached its maximum age")
)

// run follows the feed until the context ends.
func (v *Verifier) run(ctx context.Context) {
	backoff, isLogged := minBackoff, false
	for ctx.Err() == nil {
		started := time.Now()
		err := v.follow(ctx)
		if time.Since(started) > stableAfter {
			backoff, isLogged = minBackoff, false
		}
		if errors.Is(err, errStreamEnded) || ctx.Err() != nil {
			continue
		}
		// Of several failures in a row, only the first is logged.
		if !isLogged {
			v.log.Warn("the feed of revocations failed", "address", v.config.Address, "error", err)
			isLogged = true
		}
		select {
		case <-time.After(time.Duration(float64(backoff) * (0.5 + rand.Float64()))):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// follow follows one stream to its end.
func (v *Verifier) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer time.AfterFunc(maxStreamAge, func() { cancel(errStreamEnded) }).Stop()
	// Ends the stream if the server sends nothing for too long, even if the connection is open.
	silence := time.AfterFunc(connectTimeout, func() { cancel(errSilent) })
	defer silence.Stop()
	ctx, err := v.authenticate(ctx)
	if err != nil {
		return err
	}
	// A new connection, because the last one may be stalled.
	conn, err := grpc.NewClient(v.config.Address, v.options...)
	if err != nil {
		return err
	}
	defer conn.Close()
	server := authv1.NewTokenServiceClient(conn)
	feed, err := server.WatchRevocations(ctx, &authv1.WatchRevocationsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	// Acknowledgements must not delay the next message. Only the latest is sent.
	acknowledgements := make(chan *authv1.AcknowledgeRevocationsRequest, 1)
	go v.acknowledge(ctx, server, acknowledgements)
	snapshot := &snapshot{}
	for {
		message, err := feed.Recv()
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			return err
		}
		silence.Reset(heartbeatLimit)
		v.observe(message)
		hasSessions, err := v.apply(message, snapshot)
		if err != nil {
			return err
		}
		if hasSessions {
			select {
			case <-acknowledgements:
			default:
			}
			acknowledgements <- &authv1.AcknowledgeRevocationsRequest{
				WatchId: message.GetWatchId(), Sequence: message.GetSequence(),
			}
		}
	}
}

// snapshot is the snapshot with which a stream begins.
type snapshot struct {
	sessions   []uuid.UUID
	isComplete bool
}

// apply updates the revocations and the keys. It reports whether sessions were revoked, or a snapshot was completed.
func (v *Verifier) apply(message *authv1.WatchRevocationsResponse, snapshot *snapshot) (bool, error) {
	switch event := message.GetEvent().(type) {
	case *authv1.WatchRevocationsResponse_SnapshotChunk_:
		sessions, err := parseSessions(event.SnapshotChunk.GetRevokedSessionIds())
		if err != nil || snapshot.isComplete {
			return false, errUnexpected
		}
		snapshot.sessions = append(snapshot.sessions, sessions...)
	case *authv1.WatchRevocationsResponse_SnapshotEnd_:
		if snapshot.isComplete {
			return false, errUnexpected
		}
		if keys := event.SnapshotEnd.GetKeys(); keys != nil {
			if err := v.receiveKeys(keys); err != nil {
				return false, err
			}
		}
		var issuedBefore time.Time
		if limit := event.SnapshotEnd.GetIssuedBefore(); limit != nil {
			issuedBefore = limit.AsTime()
		}
		v.revocations.addSnapshot(snapshot.sessions, issuedBefore)
		snapshot.sessions, snapshot.isComplete = nil, true
		return true, nil
	case *authv1.WatchRevocationsResponse_Update_:
		sessions, err := parseSessions(event.Update.GetRevokedSessionIds())
		if err != nil || !snapshot.isComplete {
			return false, errUnexpected
		}
		v.revocations.add(sessions)
		return true, nil
	case *authv1.WatchRevocationsResponse_Heartbeat_:
		if !snapshot.isComplete {
			return false, errUnexpected
		}
		v.revocations.add(nil)
	case *authv1.WatchRevocationsResponse_Keys:
		// A replica that cannot read its revocations also sends keys, so they are not a heartbeat.
		return false, v.receiveKeys(event.Keys)
	}
	// A newer server may send events that this version does not know.
	return false, nil
}

// acknowledge confirms updates that have taken effect. Failures are only logged, because the stream shows whether the
// server is alive.
func (v *Verifier) acknowledge(
	ctx context.Context, server authv1.TokenServiceClient, requests <-chan *authv1.AcknowledgeRevocationsRequest,
) {
	for {
		select {
		case <-ctx.Done():
			return
		case request := <-requests:
			call, cancel := context.WithTimeout(ctx, acknowledgeTimeout)
			if _, err := server.AcknowledgeRevocations(call, request); err != nil {
				v.log.Debug("cannot acknowledge revocations", "error", err)
			}
			cancel()
		}
	}
}

// authenticate adds the credential of this verifier to a call. A certificate of the connection needs no header.
func (v *Verifier) authenticate(ctx context.Context) (context.Context, error) {
	token := v.config.ServiceToken
	if token == "" && v.config.KeyFile != "" {
		var err error
		if token, err = v.keys.Load().sign(v.config.Issuer, v.config.Audience, time.Now()); err != nil {
			return nil, err
		}
	}
	if token == "" {
		return ctx, nil
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// observe logs if auth-service has lost history, or if its clock differs.
func (v *Verifier) observe(message *authv1.WatchRevocationsResponse) {
	if epoch := message.GetEpoch(); epoch != v.epoch {
		if v.epoch != "" {
			v.log.Warn("auth-service has lost history; all revocations that were received remain in effect", "epoch", epoch)
		}
		v.epoch = epoch
	}
	if message.GetSendTime() == nil {
		return
	}
	skew := time.Until(message.GetSendTime().AsTime())
	if isSkewed := skew.Abs() > leeway; isSkewed != v.isSkewed {
		v.isSkewed = isSkewed
		if isSkewed {
			v.log.Error("the clocks of auth-service and of this machine differ; tokens may be refused", "ahead", skew)
		}
	}
}

// receiveKeys replaces the keys by those of the feed, unless the keys come from a file.
func (v *Verifier) receiveKeys(set *authv1.JwkSet) error {
	if v.config.KeyFile != "" {
		return nil
	}
	if len(set.GetKeys()) == 0 {
		return errSharedKey
	}
	keys, err := publicKeys(set)
	if err != nil {
		return fmt.Errorf("auth-service sent unusable public keys: %w", err)
	}
	v.keys.Store(keys)
	return nil
}

// pollKeys reads the key file regularly. While it is unusable, the last valid keys remain in use.
func (v *Verifier) pollKeys(ctx context.Context) {
	isFailing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pollInterval):
		}
		keys, err := readKeys(v.config.KeyFile, time.Now())
		if err == nil {
			v.keys.Store(keys)
		} else if !isFailing {
			v.log.Error("cannot read the key file; the previous keys remain in use", "error", err)
		}
		isFailing = err != nil
	}
}

func parseSessions(ids []string) ([]uuid.UUID, error) {
	sessions := make([]uuid.UUID, len(ids))
	for index, id := range ids {
		var err error
		if sessions[index], err = parseUUID(id); err != nil {
			return nil, err
		}
	}
	return sessions, nil
}
