module example.com/greeter

go 1.24

require (
	github.com/go-chi/chi/v5 v5.2.1
	github.com/google/go-cmp v0.7.0
	github.com/google/uuid v1.6.0
	golang.org/x/text v0.24.0
)
