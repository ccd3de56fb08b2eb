// Command example is a service that accepts access tokens of Taskey.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"taskey.dev/taskey/verifier"
)

func main() {
	// See verifier.Config for other keys, credentials and TLS.
	tokens, err := verifier.New(verifier.Config{Address: os.Args[1], KeyFile: os.Args[2], Plaintext: true})
	if err != nil {
		log.Fatal(err)
	}
	hello := func(writer http.ResponseWriter, request *http.Request) {
		fmt.Fprintln(writer, "Hello", verifier.FromContext(request.Context()).UserID)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8081", tokens.Middleware("account.read", http.HandlerFunc(hello))))
}
