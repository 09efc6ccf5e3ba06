-- The evidence's tables. `main` holds what is sealed; `live` (made by the recorder) has the same names and adds
-- the journal's tail. The record itself is `log`: every other table, but `bodies` and the recorder's own
-- bookkeeping, is what the macro of its name makes of the log, so it can be derived again at any time, by
-- anyone. A macro's JSON structure is the table's column list.
--
-- Storage is v1.4.0 and needs no extension. Times are UTC TIMESTAMPs in microseconds.

CREATE TABLE IF NOT EXISTS main.log (
  gateway_id VARCHAR, seq UBIGINT, ts TIMESTAMP, type VARCHAR, request_id UUID, leaf VARCHAR, leaf_hash VARCHAR
);

CREATE TABLE IF NOT EXISTS main.bodies (sha256 VARCHAR, bytes UBIGINT, text VARCHAR, data BLOB);

CREATE TABLE IF NOT EXISTS main.checkpoints (
  gateway_id VARCHAR, ts TIMESTAMP, size UBIGINT, root_hash VARCHAR, note VARCHAR, anchor VARCHAR, anchor_token BLOB
);

CREATE TABLE IF NOT EXISTS main.journal_files (
  gateway_id VARCHAR, number UBIGINT, first_seq UBIGINT, last_seq UBIGINT, events UBIGINT, bodies UBIGINT,
  bytes UBIGINT, unparsed UBIGINT, sealed_at TIMESTAMP
);

-- How a stream may end that has no end of its own: by its client or its session. Such an end needs no reason.
CREATE OR REPLACE MACRO main.is_streams_end(ended) AS
  coalesce(ended IN ('client_gone', 'closed', 'expired', 'revoked', 'session_ended'), false);

-- Lines of journal files into leaves and bodies -------------------------------------------------------------

-- `lines` has gateway_id, seq, ts, type, request_id, leaf, sha256, text, base64: one row for each line, see lines.py.
CREATE OR REPLACE MACRO main.leaves_in(lines) AS TABLE
  SELECT gateway_id, seq, ts, type, request_id, leaf, sha256('\x00'::BLOB || encode(leaf)) AS leaf_hash
  FROM query_table(lines) WHERE seq > 0 AND leaf IS NOT NULL;

CREATE OR REPLACE MACRO main.bodies_in(lines) AS TABLE
  SELECT sha256, octet_length(data)::UBIGINT AS bytes, text, CASE WHEN text IS NULL THEN data END AS data
  FROM (
    SELECT sha256, any_value(text) AS text, any_value(coalesce(encode(text), TRY(from_base64(base64)))) AS data
    FROM query_table(lines) WHERE sha256 IS NOT NULL GROUP BY sha256
  );

-- The log into tables: `leaves` has gateway_id, seq, ts, type, request_id, leaf ------------------------------

CREATE OR REPLACE MACRO main.session_events_in(leaves) AS TABLE
  SELECT gateway_id, seq, ts,
         CASE type WHEN 'session_opened' THEN 'opened' WHEN 'session_ended' THEN 'ended' ELSE 'refused' END AS event,
         unnest(json_transform(leaf, '{
           "session_id": "VARCHAR", "user_name": "VARCHAR", "groups": ["VARCHAR"], "issuer": "VARCHAR",
           "subject": "VARCHAR", "agent": "VARCHAR", "owner": "VARCHAR", "auth_method": "VARCHAR",
           "cluster": "VARCHAR", "client_ip": "VARCHAR", "user_agent": "VARCHAR", "tls_version": "VARCHAR",
           "tls_cipher": "VARCHAR", "credential_fingerprint": "VARCHAR", "expires_at": "TIMESTAMP",
           "renewed": "BOOLEAN", "refusal_id": "VARCHAR", "code": "INTEGER", "reason": "VARCHAR",
           "ended_by": "VARCHAR"}'))
  FROM query_table(leaves) WHERE type IN ('session_opened', 'session_refused', 'session_ended');

CREATE OR REPLACE MACRO main.requests_in(leaves) AS TABLE
  SELECT gateway_id, seq, unnest(json_transform(leaf, '{
           "id": "UUID", "ts": "TIMESTAMP", "session_id": "VARCHAR", "origin": "VARCHAR", "parent_id": "UUID",
           "cluster": "VARCHAR", "listener": "VARCHAR", "method": "VARCHAR", "uri": "VARCHAR", "verb": "VARCHAR",
           "is_resource": "BOOLEAN", "api_group": "VARCHAR", "version": "VARCHAR", "resource": "VARCHAR",
           "subresource": "VARCHAR", "namespace": "VARCHAR", "name": "VARCHAR", "classes": ["VARCHAR"],
           "dry_run": "BOOLEAN", "streams": "BOOLEAN", "user_name": "VARCHAR", "groups": ["VARCHAR"],
           "agent": "VARCHAR", "owner": "VARCHAR", "issuer": "VARCHAR", "impersonates": "VARCHAR",
           "client_ip": "VARCHAR", "client_port": "INTEGER", "http_version": "VARCHAR", "tls_version": "VARCHAR",
           "tls_cipher": "VARCHAR", "user_agent": "VARCHAR", "kubectl_command": "VARCHAR",
           "kubectl_session": "VARCHAR", "content_type": "VARCHAR", "body_sha256": "VARCHAR",
           "body_bytes": "UBIGINT", "body_truncated": "BOOLEAN", "raw_hmac": "VARCHAR", "request_digest": "VARCHAR",
           "holds_mask": "BOOLEAN", "clock_error_us": "BIGINT"}'))
  FROM query_table(leaves) WHERE type = 'request';

CREATE OR REPLACE MACRO main.decisions_in(leaves) AS TABLE
  SELECT gateway_id, seq, request_id, ts, unnest(decision.decision)
  FROM (
    SELECT gateway_id, seq, request_id, ts, json_transform(leaf, '{"decision": {
           "effect": "VARCHAR", "stage": "VARCHAR", "rule": "VARCHAR", "policy": "VARCHAR", "policy_digest": "VARCHAR",
           "reason": "VARCHAR", "code": "INTEGER", "matched": ["VARCHAR"], "unmasked": "BOOLEAN",
           "impersonation": "BOOLEAN", "approval_id": "VARCHAR", "latency_us": "UBIGINT"}}') AS decision
    FROM query_table(leaves) WHERE type = 'request'
  )
  WHERE decision.decision IS NOT NULL;

CREATE OR REPLACE MACRO main.responses_in(leaves) AS TABLE
  SELECT gateway_id, seq, unnest(json_transform(leaf, '{
           "request_id": "UUID", "ts": "TIMESTAMP", "origin": "VARCHAR", "code": "INTEGER",
           "upstream_code": "INTEGER", "ended": "VARCHAR", "reason": "VARCHAR", "content_type": "VARCHAR",
           "bytes": "UBIGINT", "body_sha256": "VARCHAR", "body_truncated": "BOOLEAN", "raw_hmac": "VARCHAR",
           "masked": "UBIGINT", "unmasked": "BOOLEAN", "chunks": "UBIGINT", "duration_us": "UBIGINT",
           "upstream_us": "UBIGINT"}'))
  FROM query_table(leaves) WHERE type = 'response';

CREATE OR REPLACE MACRO main.stream_chunks_in(leaves) AS TABLE
  SELECT gateway_id, seq, unnest(json_transform(leaf, '{
           "request_id": "UUID", "ts": "TIMESTAMP", "chunk": "UBIGINT", "channel": "VARCHAR",
           "direction": "VARCHAR", "bytes": "UBIGINT", "offset_us": "UBIGINT", "body_sha256": "VARCHAR",
           "raw_hmac": "VARCHAR", "masked": "UBIGINT", "unmasked": "BOOLEAN"}'))
  FROM query_table(leaves) WHERE type = 'stream_chunk';

CREATE OR REPLACE MACRO main.findings_in(leaves) AS TABLE
  SELECT gateway_id, seq, request_id, ts, type AS source, generate_subscripts(found.findings, 1) AS number,
         unnest(found.findings, recursive := true)
  FROM (
    SELECT gateway_id, seq, request_id, ts, type, json_transform(leaf, '{"findings": [{
           "path": "VARCHAR", "detector": "VARCHAR", "category": "VARCHAR", "action": "VARCHAR", "token": "VARCHAR",
           "count": "UBIGINT"}]}') AS found
    FROM query_table(leaves) WHERE type IN ('request', 'response', 'stream_chunk')
  );

CREATE OR REPLACE MACRO main.policies_in(leaves) AS TABLE
  SELECT gateway_id, seq, unnest(json_transform(leaf, '{
           "ts": "TIMESTAMP", "kind": "VARCHAR", "digest": "VARCHAR", "outcome": "VARCHAR",
           "files": [{"path": "VARCHAR", "sha256": "VARCHAR"}], "rules": "UBIGINT", "reason": "VARCHAR"}'))
  FROM query_table(leaves) WHERE type = 'policy_loaded';

CREATE OR REPLACE MACRO main.health_events_in(leaves) AS TABLE
  SELECT gateway_id, seq, ts, coalesce(kind, type) AS kind, * EXCLUDE (gateway_id, seq, ts, type, kind)
  FROM (
    SELECT gateway_id, seq, type, unnest(json_transform(leaf, '{
           "ts": "TIMESTAMP", "kind": "VARCHAR", "component": "VARCHAR", "detail": "VARCHAR", "request_id": "UUID",
           "about_gateway": "VARCHAR", "about_seq": "UBIGINT", "since": "TIMESTAMP", "count": "UBIGINT",
           "version": "VARCHAR", "pid": "UBIGINT", "config_digest": "VARCHAR", "policy_digest": "VARCHAR",
           "clusters": ["VARCHAR"], "listeners": ["VARCHAR"]}'))
    FROM query_table(leaves) WHERE type IN ('health', 'gateway_started', 'gateway_stopped')
  );

CREATE OR REPLACE MACRO main.approval_events_in(leaves) AS TABLE
  SELECT gateway_id, seq, unnest(json_transform(leaf, '{
           "id": "VARCHAR", "ts": "TIMESTAMP", "state": "VARCHAR", "request_id": "UUID", "session_id": "VARCHAR",
           "requester": "VARCHAR", "agent": "VARCHAR", "owner": "VARCHAR", "approver": "VARCHAR",
           "approver_auth": "VARCHAR", "channel": "VARCHAR", "cluster": "VARCHAR", "verb": "VARCHAR",
           "resource": "VARCHAR", "namespace": "VARCHAR", "name": "VARCHAR", "rule": "VARCHAR",
           "request_digest": "VARCHAR", "max_uses": "UBIGINT", "expires_at": "TIMESTAMP", "decided_at": "TIMESTAMP",
           "consumed_at": "TIMESTAMP", "consumed_by": "UUID", "comment": "VARCHAR"}'))
  FROM query_table(leaves) WHERE type = 'approval';

CREATE OR REPLACE MACRO main.reviews_in(leaves) AS TABLE
  SELECT gateway_id, seq, unnest(json_transform(leaf, '{
           "ts": "TIMESTAMP", "reviewer": "VARCHAR", "from_ts": "TIMESTAMP", "to_ts": "TIMESTAMP",
           "query": "VARCHAR", "query_sha256": "VARCHAR", "result_sha256": "VARCHAR", "comment": "VARCHAR"}'))
  FROM query_table(leaves) WHERE type = 'review';
