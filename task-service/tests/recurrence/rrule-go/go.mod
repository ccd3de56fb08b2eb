module taskey.example/recurrence

go 1.24

require github.com/teambition/rrule-go v1.8.2
