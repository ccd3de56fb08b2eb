// Command delegation is a service that calls another one on behalf of its callers: the service in Go of the test in
// clients/delegation. It exchanges the token of the caller for one that can only read tasks (RFC 8693).
//
// Usage: delegation URL KEY_FILE REPORTS
// URL is that of the gateway, and REPORTS the address of the other service. The variables CLIENT_ID and CLIENT_SECRET
// contain the credentials of the service account. The program prints its address.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"taskey.dev/taskey"
	taskv1 "taskey.dev/taskey/gen/taskey/task/v1"
	"taskey.dev/taskey/verifier"
)

const (
	exchangeGrant   = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessTokenType = "urn:ietf:params:oauth:token-type:access_token"
)

type service struct {
	tokenURL, clientID, clientSecret string
	reports                          *grpc.ClientConn
}

// exchange exchanges the token of a user for one with which this service can read the tasks of the user.
func (s *service) exchange(ctx context.Context, token string) (string, error) {
	form := url.Values{
		"grant_type": {exchangeGrant}, "subject_token": {token}, "subject_token_type": {accessTokenType},
		"scope": {"tasks.read"},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.tokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(s.clientID, s.clientSecret)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var issued struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&issued); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", status.Error(codes.FailedPrecondition, issued.Error)
	}
	return issued.AccessToken, nil
}

// call calls a method of the other service with an exchanged token, and writes the response, or the error.
func (s *service) call(writer http.ResponseWriter, request *http.Request, method string, message, response proto.Message) {
	user := verifier.FromContext(request.Context()).UserID
	_, token, _ := strings.Cut(request.Header.Get("Authorization"), " ")
	var header metadata.MD
	exchanged, err := s.exchange(request.Context(), token)
	if err == nil {
		ctx := metadata.AppendToOutgoingContext(request.Context(), "authorization", "Bearer "+exchanged)
		err = s.reports.Invoke(ctx, "/example.v1.Reports/"+method, message, response, grpc.Header(&header))
	}
	answer := map[string]any{"user": user, "actor": header.Get("x-actor"), "response": response}
	if err != nil {
		failure := taskey.AsError(err)
		writer.WriteHeader(http.StatusBadGateway)
		answer = map[string]any{
			"code": failure.Code.String(), "reason": failure.Reason, "message": failure.Message,
			"required": failure.Metadata["required"],
		}
	}
	_ = json.NewEncoder(writer).Encode(answer)
}

func main() {
	gateway, keyFile, reports := os.Args[1], os.Args[2], os.Args[3]
	tokens, err := verifier.New(verifier.Config{
		Address: strings.TrimPrefix(gateway, "http://"), KeyFile: keyFile, Plaintext: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient(reports, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	service := &service{
		tokenURL: gateway + "/v1/oauth2/token", clientID: os.Getenv("CLIENT_ID"),
		clientSecret: os.Getenv("CLIENT_SECRET"), reports: conn,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /report", func(writer http.ResponseWriter, request *http.Request) {
		service.call(writer, request, "List", &taskv1.ListTasksRequest{}, &taskv1.ListTasksResponse{})
	})
	// The token cannot do this: task-service refuses it.
	mux.HandleFunc("POST /tasks", func(writer http.ResponseWriter, request *http.Request) {
		task := &taskv1.Task{Title: "Sell milk"}
		service.call(writer, request, "Create", &taskv1.CreateTaskRequest{Task: task}, &taskv1.Task{})
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	log.Fatal(http.Serve(listener, tokens.Middleware("tasks.read", mux)))
}
