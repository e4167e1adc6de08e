// The health check of a service in Go: net/http, as its documentation has it, with a time limit for heads.
package main

import (
	"net/http"
	"os"
	"time"
)

func main() {
	body := []byte(os.Args[2] + "\n")
	server := &http.Server{
		Addr:              os.Args[1],
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(body)
		}),
	}
	panic(server.ListenAndServe())
}
