-- The evidence's views: questions of every day, and states that must never be. The recorder makes them twice, in
-- `main` and in `live`; a name without a schema is the view's own schema's, so the text is the same.
--
-- A view that must stay empty compares only what was there when the query began: within one query each table's
-- tail is read at its own moment, and what is acknowledged is on disk before what follows from it.

-- Lives: the last state of what is recorded step by step -----------------------------------------------------

CREATE OR REPLACE VIEW sessions AS
  SELECT session_id AS id,
         arg_max(CASE event WHEN 'ended' THEN 'ended' ELSE 'open' END, (ts, seq)) AS state,
         min(ts) FILTER (event = 'opened') AS opened_at,
         max(ts) FILTER (event = 'ended') AS ended_at,
         arg_max(reason, (ts, seq)) FILTER (event = 'ended') AS end_reason,
         arg_max(ended_by, (ts, seq)) FILTER (event = 'ended') AS ended_by,
         arg_max(expires_at, (ts, seq)) AS expires_at,
         count(*) FILTER (event = 'opened' AND renewed) AS renewals,
         arg_max(user_name, (ts, seq)) FILTER (event = 'opened') AS user_name,
         arg_max(groups, (ts, seq)) FILTER (event = 'opened') AS groups,
         arg_max(issuer, (ts, seq)) FILTER (event = 'opened') AS issuer,
         arg_max(subject, (ts, seq)) FILTER (event = 'opened') AS subject,
         arg_max(agent, (ts, seq)) FILTER (event = 'opened') AS agent,
         arg_max(owner, (ts, seq)) FILTER (event = 'opened') AS owner,
         arg_max(auth_method, (ts, seq)) FILTER (event = 'opened') AS auth_method,
         arg_max(cluster, (ts, seq)) FILTER (event = 'opened') AS cluster,
         arg_max(client_ip, (ts, seq)) FILTER (event = 'opened') AS client_ip,
         arg_max(user_agent, (ts, seq)) FILTER (event = 'opened') AS user_agent,
         arg_max(tls_version, (ts, seq)) FILTER (event = 'opened') AS tls_version,
         arg_max(tls_cipher, (ts, seq)) FILTER (event = 'opened') AS tls_cipher,
         arg_max(credential_fingerprint, (ts, seq)) FILTER (event = 'opened') AS credential_fingerprint
  FROM session_events WHERE event IN ('opened', 'ended') AND session_id IS NOT NULL
  GROUP BY session_id;

CREATE OR REPLACE VIEW approvals AS
  SELECT id,
         arg_max(state, (ts, seq)) AS state,
         min(ts) AS requested_at,
         arg_max(requester, (ts, seq)) AS requester,
         arg_max(agent, (ts, seq)) AS agent,
         arg_max(owner, (ts, seq)) AS owner,
         arg_max(session_id, (ts, seq)) AS session_id,
         arg_max(approver, (ts, seq)) AS approver,
         arg_max(approver_auth, (ts, seq)) AS approver_auth,
         arg_max(channel, (ts, seq)) AS channel,
         arg_max(decided_at, (ts, seq)) AS decided_at,
         arg_max(request_digest, (ts, seq)) AS request_digest,
         arg_max(request_id, (ts, seq)) AS request_id,
         arg_max(cluster, (ts, seq)) AS cluster,
         arg_max(verb, (ts, seq)) AS verb,
         arg_max(resource, (ts, seq)) AS resource,
         arg_max(namespace, (ts, seq)) AS namespace,
         arg_max(name, (ts, seq)) AS name,
         arg_max(rule, (ts, seq)) AS rule,
         arg_max(max_uses, (ts, seq)) AS max_uses,
         arg_max(expires_at, (ts, seq)) AS expires_at,
         arg_max(consumed_at, (ts, seq)) AS consumed_at,
         count(*) FILTER (state = 'consumed') AS uses,
         arg_max(comment, (ts, seq)) AS comment
  FROM approval_events GROUP BY id;

CREATE OR REPLACE VIEW gateways AS
  SELECT log.gateway_id, min(log.ts) AS first_ts, max(log.ts) AS last_ts, max(log.seq) AS last_seq,
         any_value(coalesce(life.state, 'running')) AS state
  FROM log LEFT JOIN (
    SELECT gateway_id, arg_max(state, at_seq) AS state FROM (
      SELECT gateway_id, seq AS at_seq, CASE kind WHEN 'gateway_started' THEN 'running' ELSE 'stopped' END AS state
      FROM health_events WHERE kind IN ('gateway_started', 'gateway_stopped')
      UNION ALL
      SELECT about_gateway, about_seq, 'died' FROM health_events WHERE kind = 'gateway_died'
    ) GROUP BY gateway_id
  ) AS life ON life.gateway_id = log.gateway_id
  WHERE NOT starts_with(log.gateway_id, 'recorder-')
  GROUP BY log.gateway_id;

-- Exchanges ---------------------------------------------------------------------------------------------------

-- One row for each request, with its decision and its end. Without a response it is `open` while its gateway
-- runs, and `cut` once that has stopped, died or started again after it.
CREATE OR REPLACE VIEW exchanges AS
  SELECT q.ts, q.id AS request_id, q.gateway_id, q.seq, q.session_id, q.origin, q.parent_id, q.cluster,
         q.user_name, q.groups, q.agent, q.owner, q.client_ip, q.method, q.uri, q.verb, q.api_group, q.version,
         q.resource, q.subresource, q.namespace, q.name, q.classes, q.dry_run, q.streams, q.kubectl_command,
         q.body_sha256, q.body_truncated,
         d.effect, d.stage, d.rule, d.policy, d.policy_digest, d.reason, d.approval_id,
         r.origin AS answered_by, r.code, r.upstream_code, r.ended, r.reason AS end_reason, r.bytes, r.chunks, r.masked,
         r.unmasked, r.body_sha256 AS answer_sha256, r.body_truncated AS answer_truncated, r.duration_us, r.ts AS ended_at,
         CASE WHEN r.request_id IS NOT NULL THEN 'ended' WHEN e.kind IS NOT NULL THEN 'cut' ELSE 'open' END AS state,
         CASE WHEN r.request_id IS NULL THEN e.kind END AS cut_by
  FROM requests AS q
  LEFT JOIN decisions AS d ON d.request_id = q.id AND d.gateway_id = q.gateway_id
  LEFT JOIN responses AS r ON r.request_id = q.id AND r.gateway_id = q.gateway_id
  ASOF LEFT JOIN (
    SELECT gateway_id, seq, kind FROM health_events WHERE kind IN ('gateway_started', 'gateway_stopped')
    UNION ALL
    SELECT about_gateway, about_seq, kind FROM health_events WHERE kind = 'gateway_died'
  ) AS e ON e.gateway_id = q.gateway_id AND e.seq >= q.seq;

CREATE OR REPLACE VIEW open_exchanges AS
  SELECT * EXCLUDE (state, cut_by, answered_by, code, upstream_code, ended, end_reason, bytes, chunks, masked, unmasked,
                    answer_sha256, answer_truncated, duration_us, ended_at)
  FROM exchanges WHERE state = 'open';

CREATE OR REPLACE VIEW who_did_what AS
  SELECT ts, user_name, agent, owner, cluster, verb,
         concat_ws('/', CASE WHEN is_resource THEN coalesce(nullif(api_group, ''), 'core') END,
                   CASE WHEN is_resource THEN resource ELSE uri END, nullif(subresource, '')) AS what,
         namespace, name, dry_run, effect, rule, code, masked, duration_us, session_id, request_id
  FROM (SELECT *, coalesce(resource, '') <> '' AS is_resource FROM exchanges)
  WHERE origin = 'agent';

CREATE OR REPLACE VIEW denied AS
  SELECT ts, user_name, agent, owner, cluster, method, uri, verb, api_group, resource, subresource, namespace, name,
         classes, stage, rule, policy, reason, code, client_ip, session_id, request_id
  FROM exchanges WHERE effect = 'deny';

CREATE OR REPLACE VIEW held AS
  SELECT requested_at AS ts, id AS approval_id, state, requester, agent, owner, approver, decided_at,
         epoch_us(coalesce(decided_at, CASE WHEN state = 'pending' THEN make_timestamp(epoch_us(now())) END))
           - epoch_us(requested_at) AS held_us,
         cluster, verb, resource, namespace, name, rule, request_digest, request_id, session_id, comment
  FROM approvals;

CREATE OR REPLACE VIEW masked AS
  SELECT f.ts, q.user_name, q.agent, q.cluster, q.verb, q.resource, q.namespace, q.name, f.source, f.path,
         f.detector, f.category, f.action, f.token, f.count, f.request_id, q.session_id
  FROM findings AS f LEFT JOIN requests AS q ON q.id = f.request_id AND q.gateway_id = f.gateway_id;

CREATE OR REPLACE VIEW timeline AS
  WITH q AS (FROM requests)
  SELECT q.ts, q.gateway_id, q.seq, 'request' AS what, q.user_name AS who, q.cluster,
         concat_ws(' ', q.verb, q.uri) AS target, concat_ws(' ', d.effect, d.rule) AS outcome, d.reason AS detail,
         q.session_id, q.id AS request_id
  FROM q LEFT JOIN decisions AS d ON d.request_id = q.id AND d.gateway_id = q.gateway_id
  UNION ALL BY NAME
  SELECT r.ts, r.gateway_id, r.seq, 'response' AS what, q.user_name AS who, q.cluster,
         concat_ws(' ', q.verb, q.uri) AS target, concat_ws(' ', r.code, r.ended) AS outcome, r.reason AS detail,
         q.session_id, r.request_id
  FROM responses AS r LEFT JOIN q ON q.id = r.request_id AND q.gateway_id = r.gateway_id
  UNION ALL BY NAME
  SELECT ts, gateway_id, seq, 'session' AS what, user_name AS who, cluster, issuer AS target, event AS outcome,
         reason AS detail, session_id
  FROM session_events
  UNION ALL BY NAME
  SELECT ts, gateway_id, seq, 'approval' AS what, coalesce(approver, requester) AS who, cluster,
         concat_ws(' ', verb, resource, namespace, name) AS target, state AS outcome, comment AS detail, session_id,
         request_id
  FROM approval_events
  UNION ALL BY NAME
  SELECT ts, gateway_id, seq, 'policy' AS what, kind AS target, outcome, coalesce(reason, digest) AS detail
  FROM policies
  UNION ALL BY NAME
  SELECT ts, gateway_id, seq, 'health' AS what, component AS target, kind AS outcome, detail, request_id
  FROM health_events
  UNION ALL BY NAME
  SELECT ts, gateway_id, seq, 'review' AS what, reviewer AS who, query AS target, comment AS detail
  FROM reviews;

-- What is not whole, each with its reason ---------------------------------------------------------------------

CREATE OR REPLACE VIEW incomplete AS
  WITH q AS (FROM exchanges),
  chunks AS (FROM stream_chunks),
  gaps AS (
    SELECT ts, request_id, gateway_id, reason: CASE cut_by
             WHEN 'gateway_died' THEN 'the gateway died before it ended'
             WHEN 'gateway_stopped' THEN 'the gateway stopped before it ended'
             ELSE 'the gateway started again before it ended' END
    FROM q WHERE state = 'cut'
    UNION ALL BY NAME
    -- A stream has no end of its own: that its client or its session ended it is not a gap.
    SELECT ts, request_id, gateway_id, reason: concat_ws(': ', 'ended early', ended, end_reason)
    FROM q
    WHERE state = 'ended' AND ended IS DISTINCT FROM 'complete'
      AND NOT ((streams OR chunks IS NOT NULL) AND main.is_streams_end(ended))
    UNION ALL BY NAME
    SELECT ts, request_id, gateway_id, reason: 'the request''s body is recorded only in part'
    FROM q WHERE body_truncated
    UNION ALL BY NAME
    SELECT ts, request_id, gateway_id, reason: 'the response''s body is recorded only in part'
    FROM q WHERE answer_truncated
    UNION ALL BY NAME
    SELECT ts, request_id, gateway_id, reason: concat('the body ', body_sha256, ' is not there')
    FROM (
      SELECT ts, request_id, gateway_id, body_sha256 FROM q
      UNION ALL SELECT ended_at, request_id, gateway_id, answer_sha256 FROM q
      UNION ALL SELECT ts, request_id, gateway_id, body_sha256 FROM chunks
    )
    WHERE ts <= make_timestamp(epoch_us(now())) AND body_sha256 IS NOT NULL
      AND body_sha256 NOT IN (SELECT sha256 FROM bodies)
    UNION ALL BY NAME
    SELECT ts, request_id, gateway_id, reason: concat(missing, ' pieces of the stream are missing before piece ', chunk)
    FROM (
      SELECT ts, request_id, gateway_id, chunk,
             missing: chunk::BIGINT - coalesce(lag(chunk::BIGINT) OVER (PARTITION BY request_id ORDER BY chunk), -1) - 1
      FROM chunks
    )
    WHERE missing > 0
  )
  SELECT g.ts, g.request_id, g.gateway_id, q.session_id, q.user_name, q.cluster, q.verb, q.uri, g.reason
  FROM gaps AS g LEFT JOIN q ON q.request_id = g.request_id AND q.gateway_id = g.gateway_id;

CREATE OR REPLACE VIEW seq_gaps AS
  SELECT gateway_id, before + 1 AS from_seq, seq - 1 AS to_seq, seq - before - 1 AS events, after_ts, ts AS before_ts
  FROM (
    SELECT gateway_id, seq::BIGINT AS seq, ts,
           coalesce(lag(seq::BIGINT) OVER log_order, 0) AS before, lag(ts) OVER log_order AS after_ts
    FROM log WINDOW log_order AS (PARTITION BY gateway_id ORDER BY seq)
  )
  WHERE seq > before + 1;

-- What must never be ------------------------------------------------------------------------------------------

-- 2, default deny: passed on without a decision that allows it by a named rule.
CREATE OR REPLACE VIEW promise_2_violations AS
  SELECT ts, request_id, gateway_id, 'passed on without a rule that allows it' AS violation
  FROM exchanges
  WHERE answered_by = 'upstream' AND (effect IS DISTINCT FROM 'allow' OR coalesce(rule, '') = '')
  UNION ALL BY NAME
  SELECT ts, id AS request_id, gateway_id, 'a request without a decision' AS violation
  FROM requests AS q
  WHERE ts <= make_timestamp(epoch_us(now()))
    AND NOT EXISTS (FROM decisions AS d WHERE d.request_id = q.id AND d.gateway_id = q.gateway_id);

-- 3, durable before acted on: an answer or a piece of a stream whose request was not recorded before it.
CREATE OR REPLACE VIEW promise_3_violations AS
  SELECT r.ts, r.request_id, r.gateway_id,
         CASE WHEN q.id IS NULL THEN 'an answer to a request that is not recorded'
              ELSE 'an answer recorded before its request' END AS violation
  FROM (
    SELECT ts, request_id, gateway_id, seq FROM responses
    UNION ALL SELECT ts, request_id, gateway_id, seq FROM stream_chunks
  ) AS r
  LEFT JOIN requests AS q ON q.id = r.request_id AND q.gateway_id = r.gateway_id
  WHERE r.ts <= make_timestamp(epoch_us(now())) AND (q.id IS NULL OR q.seq >= r.seq);

-- 5, nothing standing: allowed without a session, or outside its life. What ends a session is heard within a second.
CREATE OR REPLACE VIEW promise_5_violations AS
  SELECT q.ts, q.id AS request_id, q.gateway_id,
         CASE WHEN s.id IS NULL THEN 'allowed without a session that was opened'
              WHEN q.ts > s.ended_at + INTERVAL 1 SECOND THEN 'allowed after its session had ended'
              ELSE 'allowed after its session had expired' END AS violation
  FROM requests AS q
  JOIN decisions AS d ON d.request_id = q.id AND d.gateway_id = q.gateway_id AND d.effect = 'allow'
  LEFT JOIN sessions AS s ON s.id = q.session_id
  WHERE q.origin = 'agent' AND q.ts <= make_timestamp(epoch_us(now()))
    AND (s.id IS NULL OR q.ts > least(s.ended_at, s.expires_at) + INTERVAL 1 SECOND);

-- 6, one approval, one act: used more often than granted, by nobody, late, for something else, or by oneself.
CREATE OR REPLACE VIEW promise_6_violations AS
  SELECT requested_at AS ts, id AS approval_id, request_id, 'used more often than it allows' AS violation
  FROM approvals WHERE uses > coalesce(max_uses, 1)
  UNION ALL BY NAME
  SELECT requested_at AS ts, id AS approval_id, request_id, 'used without somebody''s decision' AS violation
  FROM approvals WHERE uses > 0 AND (approver IS NULL OR decided_at IS NULL)
  UNION ALL BY NAME
  SELECT ts, id AS approval_id, request_id, 'used after it had expired' AS violation
  FROM approval_events AS u
  WHERE state = 'consumed' AND consumed_at > (SELECT a.expires_at FROM approvals AS a WHERE a.id = u.id)
  UNION ALL BY NAME
  SELECT u.ts, u.id AS approval_id, u.consumed_by AS request_id, 'used for what was not approved' AS violation
  FROM approval_events AS u
  JOIN approvals AS a ON a.id = u.id
  LEFT JOIN requests AS q ON q.id = u.consumed_by
  WHERE u.state = 'consumed' AND u.ts <= make_timestamp(epoch_us(now()))
    AND coalesce(a.max_uses, 1) = 1 AND q.request_digest IS DISTINCT FROM a.request_digest
  UNION ALL BY NAME
  SELECT requested_at AS ts, id AS approval_id, request_id, 'approved by its own side' AS violation
  FROM approvals WHERE approver IN (requester, owner, agent) AND state IN ('approved', 'consumed')
  UNION ALL BY NAME
  SELECT q.ts, d.approval_id, q.id AS request_id, 'passed on under an approval that is not recorded' AS violation
  FROM decisions AS d JOIN requests AS q ON q.id = d.request_id AND q.gateway_id = d.gateway_id
  WHERE d.approval_id IS NOT NULL AND d.effect = 'allow' AND d.ts <= make_timestamp(epoch_us(now()))
    AND d.approval_id NOT IN (SELECT id FROM approvals WHERE state IN ('approved', 'consumed'));

-- 8, a mask never destroys data: a write that held a mask was passed on.
CREATE OR REPLACE VIEW promise_8_violations AS
  SELECT q.ts, q.id AS request_id, q.gateway_id, 'a masked value was written' AS violation
  FROM requests AS q JOIN responses AS r ON r.request_id = q.id AND r.gateway_id = q.gateway_id
  WHERE q.holds_mask AND r.origin = 'upstream';

-- 10, evidence shows its own gaps: a hole in a log that no record explains, an exchange that has two ends, or one
-- that broke off without saying why.
CREATE OR REPLACE VIEW promise_10_violations AS
  SELECT g.before_ts AS ts, NULL::UUID AS request_id, g.gateway_id,
         concat('events ', g.from_seq, ' to ', g.to_seq, ' are missing and no record says why') AS violation
  FROM seq_gaps AS g
  WHERE g.before_ts <= make_timestamp(epoch_us(now())) AND NOT EXISTS (
    FROM health_events AS h
    WHERE h.kind = 'journal_gap' AND h.about_gateway = g.gateway_id AND h.about_seq BETWEEN g.from_seq AND g.to_seq)
  UNION ALL BY NAME
  SELECT max(ts) AS ts, request_id, gateway_id, 'more than one end' AS violation
  FROM responses GROUP BY request_id, gateway_id HAVING count(*) > 1
  UNION ALL BY NAME
  SELECT ts, request_id, gateway_id, 'broke off and does not say why' AS violation
  FROM responses
  WHERE ended IS DISTINCT FROM 'complete' AND NOT main.is_streams_end(ended) AND coalesce(reason, '') = '';

-- AC-3: each access that was carried out was authorized, under a policy that was loaded.
CREATE OR REPLACE VIEW ac3_violations AS
  SELECT ts, request_id, gateway_id, violation FROM promise_2_violations
  UNION ALL BY NAME
  SELECT x.ts, x.request_id, x.gateway_id, 'allowed under a policy that no record shows' AS violation
  FROM exchanges AS x
  WHERE x.effect = 'allow' AND x.ts <= make_timestamp(epoch_us(now()))
    AND NOT EXISTS (FROM policies AS p WHERE p.digest = x.policy_digest AND p.outcome = 'loaded');

-- AC-5: separation of duties: nobody approves their own agent's request.
CREATE OR REPLACE VIEW ac5_violations AS
  SELECT requested_at AS ts, id AS approval_id, request_id, approver, 'approved by its own side' AS violation
  FROM approvals WHERE approver IN (requester, owner, agent) AND state IN ('approved', 'consumed');

-- AU-3: each record says what, when, where, from where, with which outcome, and for whom.
CREATE OR REPLACE VIEW au3_violations AS
  SELECT ts, request_id, gateway_id, concat('not recorded: ', array_to_string(missing, ', ')) AS violation
  FROM (
    SELECT ts, request_id, gateway_id, list_filter([
             CASE WHEN request_id IS NULL THEN 'id' END,
             CASE WHEN ts IS NULL THEN 'when' END,
             CASE WHEN coalesce(method, '') = '' OR uri IS NULL THEN 'what' END,
             CASE WHEN effect = 'allow' AND coalesce(cluster, '') = '' THEN 'where' END,
             CASE WHEN origin = 'agent' AND coalesce(client_ip, '') = '' THEN 'source' END,
             CASE WHEN effect IS NULL OR (state = 'ended' AND ended IS NULL) THEN 'outcome' END,
             CASE WHEN effect = 'allow' AND coalesce(user_name, '') = '' THEN 'identity' END], x -> x IS NOT NULL) AS missing
    FROM exchanges
    WHERE ts <= make_timestamp(epoch_us(now())) OR ts IS NULL
  )
  WHERE len(missing) > 0;
