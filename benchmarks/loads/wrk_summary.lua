-- wrk calls it at its end: the last line of its output is one of JSON, for benchmarks/loads/http.py.
done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "errors": '
      .. '{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.duration,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
